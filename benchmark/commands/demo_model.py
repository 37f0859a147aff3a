"""First part of the demo: a model shipped with nucbench finds nuclei, without any training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage import data as photographs
from skimage.color import hed2rgb, rgb2hed

from benchmark.commands.common import DEFAULT
from benchmark.host.outputs import OVERLAY
from benchmark.inference.images import predict_images
from benchmark.results.model_folder import shipped_models
from benchmark.results.pictures import side_by_side, write_png
from benchmark.results.summary import SUMMARY
from benchmark.runs.trained import load_trained
from datamodules.reading.files import read_rgb
from postproc.errors import DataError

PHOTOGRAPH = "immunohistochemistry"
PHOTOGRAPH_AT = 20.0
"""Magnification of the photograph, estimated from the size of its nuclei; its source states none."""
EOSIN = 0.25
"""Share of the optical density of the brown stain that is given to eosin, for the usual contrast of H&E."""


def recoloured(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace the brown stain (DAB) of an image by eosin, since the model was trained on H&E.

    Args:
        image: RGB image stained with hematoxylin and DAB, (H, W, 3).

    Returns:
        RGB image, (H, W, 3), stained with hematoxylin and eosin, by the colour deconvolution of Ruifrok and Johnston
        (2001).
    """
    hematoxylin, _, brown = np.moveaxis(rgb2hed(image), -1, 0)
    stains: NDArray[np.float64] = np.stack([hematoxylin, EOSIN * brown, np.zeros_like(brown)], axis=-1)
    colors: NDArray[np.float64] = hed2rgb(stains)
    return (colors * 255).round().astype(np.uint8)


def predict_photograph(out: Path, *, progress: bool = True) -> Path:
    """Find the nuclei of a photograph that scikit-image ships, and print their number.

    Args:
        out: Folder of the demo; the prediction is in ``out/predictions``.
        progress: Show progress bars.

    Returns:
        A picture in ``out/pictures``: the photograph, and the recoloured image with outlines.
    """
    photograph = photographs.immunohistochemistry()
    image = out / "images" / f"{PHOTOGRAPH}.png"
    write_png(image, recoloured(photograph))
    count = _predict(image, out / "predictions", PHOTOGRAPH_AT, progress)
    picture = out / "pictures" / f"{PHOTOGRAPH}.png"
    found = read_rgb(out / "predictions" / f"{PHOTOGRAPH}{OVERLAY}")
    write_png(picture, side_by_side([photograph, found]))
    print(
        f"model {DEFAULT}: {count} nuclei in the photograph {PHOTOGRAPH!r} of scikit-image, see {picture}", flush=True
    )
    return picture


def _predict(image: Path, out: Path, magnification: float, progress: bool) -> int:
    """Return the number of nuclei found in an image; a finished prediction is kept."""
    model = shipped_models()[DEFAULT]  # by its path: a folder of this name may exist where the demo is started
    failed = predict_images(
        model, [image], out, load=load_trained, variant=None, magnification=magnification, progress=progress, workers=0,
        repeat=f"delete {out} to repeat them",
    )  # fmt: skip
    if failed:
        raise DataError(f"{image} could not be processed; delete {out} and run the demo again")
    with (out / SUMMARY).open(encoding="utf-8", newline="") as file:
        counts = {row["image"]: int(row["nuclei"]) for row in csv.DictReader(file)}
    return counts[image.name]


__all__ = ["predict_photograph", "recoloured"]
