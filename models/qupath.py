"""QuPath's watershed cell detection (Bankhead et al. 2017)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.classical import ClassicalMethod
from postproc.classical.qupath import QuPathCodec


class QuPath(ClassicalMethod):
    """Watershed cell detection with the settings that QuPath offers for H&E.

    Args:
        task: What the training data asks for; only the microns per px are used.
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
            "Rebuilt from the public source of versions 0.1 to 0.4; QuPath itself is not run. Its own results can be "
            "scored with: nucbench evaluate --predictions.",
            "Cells are not grown around the nuclei: only nuclei are scored.",
            "ImageJ's binary watershed is a watershed of the distance map from its maxima of dynamics above 0.5 px; "
            "ImageJ floods by level and draws its lines somewhat differently.",
            "Outlines are smoothed by interpolating each mask linearly, not by resampling and simplifying polygons.",
            "Images are shrunk to the requested pixel size by area, QuPath reads or makes its own pyramid.",
            "Where two outlines overlap after enlarging, the later nucleus has the px; QuPath keeps both.",
            "The median filter, which is off by default, has a square of 3 or 5 px.",
        ),
        trained=False,
        needs="none",
    )
    codec_type = QuPathCodec
