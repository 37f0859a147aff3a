"""Inference of networks on whole images: magnification, tiles, memory."""
