"""Draw the gallery of the documentation: ``python -m benchmark.commands.docs_gallery FOLDER``.

All images are synthetic, or a photograph that scikit-image ships, so the pictures may be shared.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from skimage.data import immunohistochemistry

from benchmark.commands.common import DEFAULT
from benchmark.commands.demo_model import PHOTOGRAPH_AT, recoloured
from benchmark.commands.look import draw_look
from benchmark.results.pictures import write_png
from datamodules.reading.files import write_mat, write_rgb
from datamodules.synthetic.images import generate
from datamodules.synthetic_sets import Synthetic
from postproc.codecs.distance import DistanceCodec
from postproc.codecs.hover import HoverCodec
from postproc.codecs.star_convex import StarConvexCodec
from postproc.instances import Instances

SIDE = 192
PAGE = """\
# Gallery

All pictures on this page were drawn when the site was built, on synthetic images or on scikit-image's photograph
`immunohistochemistry`, recoloured to H&E.

## Nuclei found by an included model

`nucbench look photograph.png default --magnification 20`

![Photograph with outlines of nuclei](photograph.png)

## Nuclei with types

The annotation of a synthetic image, drawn by
`nucbench look image.png image.mat --types miscellaneous inflammatory epithelial spindle-shaped`:

![Synthetic image with outlines coloured by type](types.png)

## What networks learn

The targets of three methods on the same image: the distance to the outline ([DIST](../methods/dist.md)), horizontal and
vertical distances to the centre ([HoVer-Net](../methods/hovernet.md)), the object probability and the length of one ray
([StarDist](../methods/stardist.md)).
`nucbench plot maps` draws what a trained network puts out.

![Targets of DIST, HoVer-Net and StarDist](targets.png)
"""


def draw_gallery(folder: Path) -> None:
    """Write the page and its pictures.

    Args:
        folder: Output; pictures of an earlier call are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inputs = folder / "inputs"
    photograph = inputs / "photograph.png"
    write_rgb(photograph, recoloured(immunohistochemistry())[100:340, 200:500])
    _look(photograph, Path(DEFAULT), folder / "photograph.png", 2, (), PHOTOGRAPH_AT)
    image, nuclei = generate((SIDE, SIDE), np.random.default_rng(2))
    write_rgb(inputs / "image.png", image)
    write_mat(inputs / "image.mat", nuclei)
    _look(inputs / "image.png", inputs / "image.mat", folder / "types.png", 3, Synthetic.card.types, 40.0)
    write_png(folder / "targets.png", target_row(image, nuclei))
    for path in inputs.iterdir():
        path.unlink()
    inputs.rmdir()
    (folder / "index.md").write_text(PAGE, encoding="utf-8")


def target_row(image: NDArray[np.uint8], nuclei: Instances) -> NDArray[np.uint8]:
    """Return the image and the training targets of three methods side by side, uint8 (H, W', 3)."""
    hover, star = HoverCodec().encode(nuclei)["hv"], StarConvexCodec().encode(nuclei)
    maps = (DistanceCodec().encode(nuclei)["distance"], hover[0], hover[1], star["probability"], star["rays"][0])
    return np.concatenate([image, *(_coloured(each) for each in maps)], axis=1)


def _look(image: Path, nuclei: Path, out: Path, zoom: int, types: tuple[str, ...], magnification: float) -> None:
    draw_look(image, nuclei, out, window=None, zoom=zoom, types=types, magnification=magnification)


def _coloured(values: NDArray[Any]) -> NDArray[np.uint8]:
    flat = np.asarray(values, np.float64).reshape(values.shape[-2:])
    low, high = flat.min(), flat.max()
    colours = mpl.colormaps["viridis"]((flat - low) / max(high - low, 1e-9))
    return np.ascontiguousarray((colours[..., :3] * 255).round().astype(np.uint8))


if __name__ == "__main__":
    draw_gallery(Path(sys.argv[1]))
