"""Mirrors of a run on Weights & Biases and TensorBoard; the run directory stays the only source of results."""
