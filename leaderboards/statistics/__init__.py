"""Intervals and tests over the scores of images."""
