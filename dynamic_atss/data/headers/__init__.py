"""Readers of the headers of single formats."""
