"""Fiji's pipeline for H&E: colour deconvolution, threshold, watershed (Schindelin et al. 2012)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.card_texts import IMAGEJ_WATERSHED, rebuilt
from models.base.classical import ClassicalMethod
from postproc.classical.fiji import FijiCodec


class Fiji(ClassicalMethod):
    """Threshold and watershed on the haematoxylin channel.

    Args:
        task: Types and pixel size of the training data; types are ignored.
    """

    card = MethodCard(
        name="fiji",
        variants=(Variant("fiji", "Fiji"),),
        summary="Rebuilt colour deconvolution, automatic threshold, binary watershed and particle analysis.",
        paper="Schindelin et al., Fiji: an open-source platform for biological-image analysis, Nature Methods 9, 2012",
        url="https://doi.org/10.1038/nmeth.2019",
        recipe="Nothing is trained. Colour Deconvolution with the vectors H&E, threshold Default on haematoxylin, Fill "
        "Holes, Watershed, Analyze Particles.",
        deviations=(
            rebuilt("Fiji", "the public source and help of ImageJ 1.5x and the plugin Colour Deconvolution 1.x"),
            "We do not know of a description of the steps in Fiji by the comparison whose figures the tables show "
            "(Kumar et al. 2017); these are the usual steps.",
            "Particles under 10 square microns are dropped, as in QuPath; the default of Fiji's dialogue keeps all.",
            IMAGEJ_WATERSHED,
            "The Default threshold is the plain iteration over the histogram; ImageJ's dialogue first reduces a level "
            "that is more than twice as frequent as any other.",
        ),
        trained=False,
        needs="none",
    )
    codec_type = FijiCodec
