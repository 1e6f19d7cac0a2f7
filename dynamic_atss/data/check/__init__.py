"""Checks entire data sets and reads every picture of them, for tools/check_dataset.py."""
