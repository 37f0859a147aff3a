"""Intervals and tests of per-image scores."""
