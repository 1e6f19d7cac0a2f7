"""Checks entire data sets, with every picture read, for tools/check_dataset.py."""
