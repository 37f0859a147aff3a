"""Readers of image and annotation files."""
