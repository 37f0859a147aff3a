"""Texts that several method cards share; each is used by at least two cards."""

from __future__ import annotations

# ---- comparison of HoVer-Net (Graham et al. 2019) ----------------------------------------------------------------

HOVERNET_COMPARISON = "As in the comparison of HoVer-Net (Graham et al. 2019): Adam, weight decay 1e-5"
"""Beginning of the recipe text of the methods that this comparison trained."""

GLOROT = "the comparison of HoVer-Net draws Glorot's random weights."
"""Second half of a sentence about initial weights."""

RANDOM_CROPS = "Crops are drawn at random, 16 of each image in an epoch: as many as cover 1000 x 1000 px."

CONTOUR_WIDTH = (
    "Contours are 2 px wide on each side of a border. True maps then decode to a mean PQ of 0.992 on Kumar and 0.966 "
    "on CoNSeP."
)

UNKNOWN_AUGMENTATION = (
    "Augmentation is that of HoVer-Net's comparison (policy hovernet), whose table contains this row; we do not know "
    "the augmentation of the paper."
)

NO_STAIN_NORMALISATION = "Stains are not normalised: all methods use the same images."

ONE_TRAINING = (
    "One training, with the augmentation of Graham et al. 2019 (policy hovernet), fills the rows of both comparisons; "
    "Naylor et al. 2018 deform images and perturb stains."
)
"""For methods of this comparison and that of Naylor et al. 2018."""


def adam_instead(settings: str) -> str:
    """Return the deviation of a method that its paper trained by SGD with these settings."""
    return f"Adam instead of SGD {settings}, as in the comparison of HoVer-Net, whose figures the tables show."


# ---- comparison of Naylor et al. 2017 ----------------------------------------------------------------------------

NAYLOR_2017 = "As in Naylor et al. 2017, section 4: SGD with momentum 0.9, weight decay 5e-5, cross-entropy"
"""Beginning of the recipe text of the methods that this paper trained."""

NAYLOR_2017_SETTINGS = "Naylor et al. 2017 give no learning rate, batch size, crop size or duration."

NAYLOR_2017_AUGMENTATION = (
    "Naylor et al. 2017 flip, rotate, blur and deform images (policy naylor-2017) but do not say how strongly."
)

# ---- initial weights and protocols -------------------------------------------------------------------------------

VGG16_BN = (
    "The encoder starts from the ImageNet weights of VGG16 with batch normalisation; the paper starts from those of "
    "VGG16 without."
)

TIMM_RESNET = "The ImageNet weights are timm's resnetv2_50.a1h_in1k, since those of the paper are not publicly hosted"
"""First half of a sentence, without a full stop."""


def full_length(length: str) -> str:
    """Return why a method with early stopping does not stop early under protocol ``paper``."""
    return f"Protocol paper trains on all training images, leaves none to validate on, and runs for all {length}."


ENCODER_OPTION = (
    "With option encoder, the body is a U-Net of segmentation-models-pytorch over that encoder of timm. This is "
    "another method with its own row; loss, targets and decoding are unchanged."
)

# ---- classical programs ------------------------------------------------------------------------------------------

IMAGEJ_WATERSHED = (
    "ImageJ's binary watershed is a watershed of the distance map from its maxima of dynamics above 0.5 px; ImageJ "
    "floods by level and draws its lines somewhat differently."
)


def rebuilt(program: str, source: str) -> str:
    """Return the deviation of a program that is not run but rebuilt from its public `source`."""
    return (
        f"Rebuilt from {source}; {program} itself is not run. Its own results can be scored with: nucbench evaluate "
        "--predictions."
    )
