"""Cell Profiler's identification of primary objects (Carpenter et al. 2006)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.classical import ClassicalMethod
from models.base.method import UNTYPED, Task
from postproc.classical.cellprofiler import CellProfilerCodec, Threshold


class CellProfiler(ClassicalMethod):
    """Threshold on grey levels and declumping by intensity.

    Args:
        task: What the training data asks for; only the microns per px are used.
        threshold: ``otsu-3`` = Otsu's threshold above the brightest two of three classes; ``otsu`` = between two;
            ``cross-entropy`` = least cross-entropy, the module's own default.
    """

    card = MethodCard(
        name="cellprofiler",
        variants=(Variant("cellprofiler", "Cell Profiler", ("CellProfiler",)),),
        summary="Rebuilt IdentifyPrimaryObjects on inverted grey levels.",
        paper="Carpenter et al., CellProfiler: image analysis software for identifying and quantifying cell "
        "phenotypes, Genome Biology 7, 2006",
        url="https://doi.org/10.1186/gb-2006-7-10-r100",
        recipe="Nothing is trained. ColorToGray, inversion, IdentifyPrimaryObjects: global Otsu threshold with three "
        "classes, declumping and dividing lines by intensity, automatic smoothing, objects of 4 to 15 microns.",
        deviations=(
            "Rebuilt from the public source and help of version 3; Cell Profiler itself is not run. Its own results "
            "can be scored with: nucbench evaluate --predictions.",
            "The comparison of HoVer-Net used a pipeline that applies a threshold to the greyscale image and does "
            "further steps after it; it names neither pipeline nor settings.",
            "Otsu with three classes, the middle one background, is what the module's help advises for nuclei "
            "in faintly stained cells; its default, least cross-entropy, takes stained stroma for nuclei "
            "(threshold=cross-entropy).",
            "Diameters, in px in Cell Profiler, are in microns; 4 to 15 are those of nuclei in tissue. The module "
            "proposes 10 to 40 px, with which its smoothing splits nuclei at 40x.",
            "This threshold and these diameters are the best of twelve pairs on 8 training images of Kumar (PQ 0.326). "
            "They were looked for because the module's own defaults do poorly (AJI 0.18 on Kumar's test images).",
            "Objects at the border of the image are kept: the annotation holds those nuclei too.",
            "Maxima are sought at full resolution; Cell Profiler shrinks images whose smallest diameter exceeds 10 px.",
            "A plateau of maxima is one marker as a whole; Cell Profiler shrinks it to a px.",
        ),
        trained=False,
        needs="none",
    )
    codec_type = CellProfilerCodec

    def __init__(self, task: Task = UNTYPED, *, threshold: Threshold = "otsu-3") -> None:
        super().__init__(task)
        self.codecs = {"cellprofiler": CellProfilerCodec(task.mpp, threshold)}
