"""Readers of files apart from the datasets."""
