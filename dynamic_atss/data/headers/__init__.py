"""Reads the headers of image files, with one module per format."""
