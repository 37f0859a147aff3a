"""Cutting slides into tiles."""
