"""Cell Profiler's identification of primary objects (Carpenter et al. 2006)."""

from __future__ import annotations

from models.base.card import MethodCard, Variant
from models.base.card_texts import rebuilt
from models.base.classical import ClassicalMethod
from models.base.method import UNTYPED, Task
from postproc.classical.cellprofiler import CellProfilerCodec, Threshold


class CellProfiler(ClassicalMethod):
    """Threshold on grey levels and declumping by intensity.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        threshold: ``otsu-3`` = Otsu's threshold with three classes, the middle one background; ``otsu`` = with two
            classes; ``cross-entropy`` = minimum cross-entropy, the module's default.
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
            rebuilt("Cell Profiler", "the public source and help of version 3"),
            "HoVer-Net's comparison used a pipeline that thresholds the greyscale image and applies further steps; it "
            "names neither the pipeline nor its settings.",
            "For nuclei in faintly stained cells, the module's help advises Otsu's threshold with three classes, the "
            "middle one background. Its default, minimum cross-entropy, detects stained stroma as nuclei "
            "(threshold=cross-entropy).",
            "Diameters are in microns; Cell Profiler's are in pixels. Nuclei in tissue measure 4 to 15 microns. The "
            "module proposes 10 to 40 px, but then its smoothing splits nuclei at 40x.",
            "This threshold and these diameters are the best of twelve pairs on 8 training images of Kumar (PQ "
            "0.326). We searched for them because the module's defaults perform poorly (AJI 0.18 on Kumar's test "
            "images).",
            "Objects at the border of the image are kept, because the annotation contains these nuclei.",
            "Maxima are searched at full resolution; Cell Profiler shrinks the image if the smallest diameter exceeds "
            "10 px.",
            "A plateau of maxima is one marker as a whole; Cell Profiler shrinks it to one pixel.",
        ),
        trained=False,
        needs="none",
    )
    codec_type = CellProfilerCodec

    def __init__(self, task: Task = UNTYPED, *, threshold: Threshold = "otsu-3") -> None:
        super().__init__(task)
        self.codecs = {"cellprofiler": CellProfilerCodec(task.mpp, threshold)}
