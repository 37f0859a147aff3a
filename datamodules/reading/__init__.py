"""Readers of image and annotation files."""

import logging

# tifffile logs what it finds odd in a damaged file; readers name the file and the remedy in an error of their own
logging.getLogger("tifffile").addHandler(logging.NullHandler())
