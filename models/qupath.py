"""QuPath's watershed cell detection (Bankhead et al. 2017)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.card_texts import IMAGEJ_WATERSHED, rebuilt
from models.base.classical import ClassicalMethod
from postproc.classical.qupath import QuPathCodec


class QuPath(ClassicalMethod):
    """Watershed cell detection with QuPath's settings for H&E.

    Args:
        task: Types and pixel size of the training data; types are ignored.
    """

    card = MethodCard(
        name="qupath",
        variants=(Variant("qupath", "QuPath"),),
        summary="Rebuilt watershed cell detection on the optical density of haematoxylin, default settings.",
        paper="Bankhead et al., QuPath: Open source software for digital pathology image analysis, Scientific "
        "Reports 7, 2017",
        url="https://doi.org/10.1038/s41598-017-17204-5",
        recipe="Nothing is trained. Default settings, as in the comparison of HoVer-Net (Graham et al. 2019).",
        deviations=(
            rebuilt("QuPath", "the public source of versions 0.1 to 0.4"),
            "Cells are not grown around the nuclei: only nuclei are scored.",
            IMAGEJ_WATERSHED,
            "Outlines are smoothed by linear interpolation of each mask, not by resampling and simplifying polygons.",
            "Images are reduced to the requested pixel size by area averaging; QuPath reads or builds its own pyramid.",
            "If two outlines overlap after enlarging, the later nucleus gets the pixels; QuPath keeps both.",
            "The median filter, which is off by default, has a square kernel of 3 or 5 px.",
        ),
        trained=False,
        needs="none",
    )
    codec_type = QuPathCodec
