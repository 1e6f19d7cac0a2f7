"""Exports a trained detector to one file that runs without this package."""
