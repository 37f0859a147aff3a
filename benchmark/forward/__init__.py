"""Whole images through a network: magnification, tiles, memory."""
