"""A trained detector as one file that runs without this package."""
