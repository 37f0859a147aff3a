"""Datasets, one file each: index, reader, splits and dataset card."""
