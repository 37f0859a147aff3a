"""Names of the types of Lizard and CoNIC; importing them needs neither torch nor the data."""

TYPES = ("neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")
"""Nucleus types 1 to 6."""
