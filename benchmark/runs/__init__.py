"""Training, evaluation and run records."""
