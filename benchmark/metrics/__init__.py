"""Scores of predicted nuclei against annotated nuclei, per image and pooled."""
