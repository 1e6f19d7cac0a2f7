"""Readers of the headers of image files, one module per format."""
