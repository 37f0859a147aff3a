"""What shows a run elsewhere while the run directory stays the truth: Weights & Biases, TensorBoard."""
