"""Prediction of nuclei in datasets, images and slides."""
