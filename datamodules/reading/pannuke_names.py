"""Names of the types and tissues of PanNuke; importing them needs neither torch nor the data."""

TYPES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
"""Nucleus types 1 to 5, in the order of the channels of masks.npy; epithelial = non-neoplastic epithelial."""

TISSUES = (
    "Adrenal_gland", "Bile-duct", "Bladder", "Breast", "Cervix", "Colon", "Esophagus", "HeadNeck", "Kidney", "Liver",
    "Lung", "Ovarian", "Pancreatic", "Prostate", "Skin", "Stomach", "Testis", "Thyroid", "Uterus",
)  # fmt: skip
"""Names in types.npy, in the order of the code of the authors."""
