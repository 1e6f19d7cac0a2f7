"""A data set looked through as a whole, every picture read: what tools/check_dataset.py calls."""
