"""Training, evaluation and their record."""
