"""Nucleus types of the dataset Ki67, for modules that do not load datasets."""

TYPES = ("immunopositive tumour", "immunonegative tumour", "non-tumour")
"""Names of types 1 to 3."""
