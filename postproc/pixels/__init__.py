"""Pixel algorithms that are independent of codecs."""
