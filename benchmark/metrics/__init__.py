"""Scores of predicted against annotated nuclei, per image and pooled."""
