"""Codecs, one per kind of network output."""
