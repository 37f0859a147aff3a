"""Predict whole slides: as other large images, but only where there is tissue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.forward.maps import InferenceSettings
from benchmark.forward.scaling import ScaledRaster, scale_factor
from benchmark.host.files import file_hash
from benchmark.inference.disk_stitcher import everywhere
from benchmark.inference.large import WORKERS, LargeImage, found_nuclei
from benchmark.inference.large_output import write_csv, write_geojson
from benchmark.inference.overview import write_overview
from benchmark.results.prediction_folder import COMPRESSED, OVERLAY, WORK
from benchmark.results.summary import ImageSummary
from datamodules.reading.magnification import MPP_AT_1X, differs
from datamodules.reading.rasters import Raster
from datamodules.reading.slides import Slide
from datamodules.reading.tissue import MPP, Tissue, find_tissue, read_tissue
from postproc.codec import Params

if TYPE_CHECKING:
    from models.base.method import NucleiMethod

TILE = 1024
"""Maximum side of tiles in pixels; larger ones compute more glass at the border of tissue."""
SAME = 1.1
"""Maximum ratio of the stated magnification to that of the model without rescaling."""


@dataclass(frozen=True)
class SlideOptions:
    """Options for whole slides.

    Attributes:
        mask: Compute only tissue.
        tissue: Image of the tissue; None = found by saturation.
        gzip: Write NAME.geojson.gz instead of NAME.geojson.
    """

    mask: bool = True
    tissue: Path | None = None
    gzip: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """Suffixes of the results."""
        return OVERLAY, f".geojson{COMPRESSED if self.gzip else ''}", ".csv"

    def how(self) -> dict[str, Any]:
        """Return what determines the results, as JSON types; empty by default.

        Raises:
            OSError: If the mask cannot be read.
        """
        found: dict[str, Any] = {} if self.mask else {"tissue": "everywhere"}
        if self.tissue is not None:
            found["tissue"] = file_hash(self.tissue)
        return found | ({"gzip": True} if self.gzip else {})


def predict_slide(
    method: NucleiMethod,
    variant: str,
    params: Params,
    path: Path,
    settings: InferenceSettings,
    out: Path,
    *,
    options: SlideOptions,
    trained: float | None,
    given: float | None,
    workers: int = WORKERS,
    about: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> ImageSummary:
    """Predict the nuclei of a slide and write STEM.csv, STEM.geojson and STEM_overlay.png.

    Coordinates are pixels of the full resolution.

    Args:
        method: Method in eval mode, on its device.
        variant: Key of the codec.
        params: Parameters of the codec.
        path: The slide.
        settings: Precision and tiles.
        out: Output folder, also used for intermediate results.
        options: Tissue and compression.
        trained: Magnification of the training images; None = unknown, the slide is not rescaled.
        given: Magnification given by the user; None = the one stated by the file.
        workers: Number of decoding processes; 0 = decode in this process.
        about: Properties of slide and model that determine the results, for resuming.
        progress: Show tiles and regions with the time left.

    Returns:
        Number of nuclei in total and per type.

    Raises:
        ConfigError: If the codec can decode only whole images, or the package that reads the slide is not installed.
        DataError: If the slide is damaged, its magnification is missing or implausible, or the disk is full.
    """
    with Slide(path, magnification=given) as slide:
        shape = slide.size[1], slide.size[0]
        own = MPP_AT_1X / slide.mpp
        factor = scale_factor(trained, own) if differs(own, trained, SAME) else 1.0
        pixels = reduced(slide, factor)
        mask = _mask(slide, shape, options)
        tissue = None if mask is None else Tissue(mask, pixels.shape)
        _announce(path, slide, factor, tissue)
        wanted = everywhere if tissue is None else tissue.touches
        large = LargeImage(path.name, pixels, shape, slide.mpp, wanted, {**(about or {}), "mpp": slide.mpp})
        limited = replace(settings, most=TILE)
        work = method, variant, params, large, limited, out / f"{WORK}{path.stem}"
        with found_nuclei(*work, workers=workers, progress=progress) as (nuclei, _):
            write_csv(out / f"{path.stem}.csv", nuclei, method.task.types, slide.mpp)
            overlay, outlines, _ = options.endings
            write_geojson(out / f"{path.stem}{outlines}", nuclei)
            write_overview(out / f"{path.stem}{overlay}", slide, mask, nuclei)
            return nuclei.summary(path.name, method.task.types)


def reduced(slide: Slide, factor: float) -> Raster:
    """Return a slide at another size, from the best level of its pyramid.

    Args:
        slide: The slide, which must remain open.
        factor: Pixels of the result per pixel of the full resolution.
    """
    level = slide.raster(factor)
    original = slide.size[1], slide.size[0]
    if level.shape == (max(1, round(original[0] * factor)), max(1, round(original[1] * factor))):
        return level
    return ScaledRaster(level, factor, original)


def _mask(slide: Slide, shape: tuple[int, int], options: SlideOptions) -> Any:
    if options.tissue is not None:
        return read_tissue(options.tissue, shape)
    if not options.mask:
        return None
    mpp = max(MPP, slide.mpp)
    return find_tissue(reduced(slide, slide.mpp / mpp), mpp)


def _announce(path: Path, slide: Slide, factor: float, tissue: Tissue | None) -> None:
    """Print size, scale and tissue of a slide."""
    width, height = slide.size
    scale = "" if factor == 1 else f", rescaled to {slide.mpp / factor:.3g}"
    area = width * height * (slide.mpp / 1000) ** 2
    covered = "all of it" if tissue is None else f"{tissue.share:.1%} of it tissue, {area * tissue.share:.1f} mm2"
    print(f"{path.name}: {width:,} x {height:,} px at {slide.mpp:.3g} microns per px{scale}; {covered}", flush=True)


__all__ = ["SAME", "SlideOptions", "predict_slide", "reduced"]
