"""Fiji's pipeline for H&E: colour deconvolution, threshold, watershed (Schindelin et al. 2012)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.classical import ClassicalMethod
from postproc.classical.fiji import FijiCodec


class Fiji(ClassicalMethod):
    """Threshold and watershed on the haematoxylin channel.

    Args:
        task: What the training data asks for; only the microns per px are used.
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
            "Rebuilt from the public source and help of ImageJ 1.5x and the plugin Colour Deconvolution 1.x; Fiji "
            "itself is not run. Its own results can be scored with: nucbench evaluate --predictions.",
            "The comparison whose figures the tables show (Kumar et al. 2017) is not known to state its steps in "
            "Fiji; these are the usual ones.",
            "Particles under 10 square microns are dropped, as QuPath does; the dialogue's own default keeps all.",
            "ImageJ's binary watershed is a watershed of the distance map from its maxima of dynamics above 0.5 px; "
            "ImageJ floods by level and draws its lines somewhat differently.",
            "The Default threshold is the plain iteration over the histogram; ImageJ's dialogue first cuts down a "
            "level that is more than twice as frequent as any other.",
        ),
        trained=False,
        needs="none",
    )
    codec_type = FijiCodec
