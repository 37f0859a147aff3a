"""Per-nucleus boxes and masks (Mask R-CNN): encoding, decoding, and stitching of tiles."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.components import connected_components
from postproc.pixels.labels import LabelMap, relabel
from postproc.windows import Window

GRID = 28
"""Cells on a side of a predicted mask (He et al. 2017, figure 4)."""
SMALLEST = 5
"""Minimum area in pixels of a nucleus in the targets and of a predicted fragment that is kept."""
UNTYPED = -1
"""Label of a nucleus without a type among typed ones; it is excluded from the loss of the box head."""


@dataclass(frozen=True)
class MaskParams(Params):
    """Post-processing parameters of Mask R-CNN, applied to the detections that the network stored.

    The paper's DMC is `confidence`: 0.5 at inference (Naylor et al. 2018, table III; range of table I). Its NMST is the
    threshold of the region proposal network, applied before detections are stored, and therefore an option of the
    method (``nmst`` of `models.mask_rcnn.MaskRCNN`). `overlap` is the same test on the final boxes: its default is that
    of the implementation which the paper used, and its other values are NMST's range, so that tuning covers both.

    Attributes:
        confidence: Smallest score of a detection that becomes a nucleus. The network stores no detection below the
            smallest of the choices.
        overlap: Of two detections whose boxes have a larger intersection over union, the weaker is dropped regardless
            of type, since a nucleus has one type.
    """

    confidence: float = tunable(0.5, (0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
    overlap: float = tunable(0.3, (0.3, 0.5, 0.6, 0.7, 0.8, 0.9))


class MaskCodec(Codec[MaskParams]):
    """Nuclei as boxes, each with a mask.

    Boxes are (x0, y0, x1, y1) along pixel edges: the first pixel of the image has the box (0, 0, 1, 1).

    Targets: ``boxes`` float32 (N, 4) px; ``labels`` int64 (N,), the type (1 where types are not learnt,
    `UNTYPED` for a nucleus without a type among typed ones); ``masks`` uint8 (N, H, W), 1 = the nucleus.

    Maps: ``boxes`` float32 (K, 4) px of the image, which may reach beyond it; ``scores`` float32 (K,);
    ``labels`` int64 (K,); ``masks`` float16 (K, M, M), probabilities of M x M cells that divide the box;
    ``shape`` int64 (2,), (H, W) of the image in pixels.

    Args:
        types: Number of nucleus types; 0 = nuclei without types.
    """

    params_type: ClassVar[type[Params]] = MaskParams

    def __init__(self, types: int = 0) -> None:
        self.types = types

    def encode(self, truth: Instances) -> Targets:
        """Return boxes, labels and masks of the nuclei of at least `SMALLEST` px.

        Raises:
            DataError: If the annotation lacks outlines, or types although they are requested.
        """
        if truth.labels is None:
            raise DataError("masks need outlines, this annotation has none. Use a dataset with label maps.")
        if self.types and truth.types is None and truth.count:
            raise DataError("types are to be learnt, this annotation has none. Use a dataset with types.")
        area = np.bincount(truth.labels.ravel(), minlength=truth.count + 1)[1:]
        places = ndimage.find_objects(truth.labels)
        rows = np.flatnonzero(area >= SMALLEST)
        boxes = np.zeros((len(rows), 4), np.float32)
        masks = _zeros((len(rows), *truth.shape))
        for row, index in enumerate(rows):
            y, x = places[index]
            boxes[row] = x.start, y.start, x.stop, y.stop
            masks[row, y, x] = truth.labels[y, x] == index + 1
        return {"boxes": boxes, "labels": self._labels(truth, rows), "masks": masks}

    def _labels(self, truth: Instances, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self.types or truth.types is None:
            return np.ones(len(rows), np.int64)
        types = truth.types[rows].astype(np.int64)
        return np.where(types > 0, types, UNTYPED)

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return every nucleus as a detection of score 1 with its mask resampled to `GRID` cells."""
        masks = np.zeros((len(targets["boxes"]), GRID, GRID), np.float16)
        for row, (x0, y0, x1, y1) in enumerate(targets["boxes"].astype(int)):
            part = targets["masks"][row, y0:y1, x0:x1].astype(np.float32)
            # Averaging over cells is only meaningful if a cell is larger than a pixel.
            method = cv2.INTER_AREA if min(part.shape) >= GRID else cv2.INTER_LINEAR
            masks[row] = cv2.resize(part, (GRID, GRID), interpolation=method)
        return {
            "boxes": targets["boxes"].astype(np.float32),
            "scores": np.ones(len(masks), np.float32),
            "labels": targets["labels"].astype(np.int64),
            "masks": masks,
            "shape": np.array(targets["masks"].shape[1:], np.int64),
        }

    def check_symmetries(self) -> None:
        """Raise a ConfigError: detections of different images are not averaged."""
        raise ConfigError("only dense maps can be averaged over mirrored and rotated images (--tta), not detections")

    def decode(self, maps: Mapping[str, Array], params: MaskParams) -> Instances:
        """Return the nuclei of one image.

        Detections are processed from the most to the least certain. Those below `params.confidence` or overlapping a
        more certain one too much are dropped; the others are assigned the free pixels with a mask probability of at
        least 0.5. Of each nucleus only the largest 8-connected part is kept.
        """
        boxes, scores = maps["boxes"].astype(np.float32), maps["scores"].astype(np.float32)
        fit = np.flatnonzero((scores >= params.confidence) & np.isfinite(boxes).all(axis=1))
        order = fit[np.argsort(-scores[fit], kind="stable")]
        order = order[suppress(boxes[order], np.arange(len(order)), params.overlap)]
        canvas: LabelMap = np.zeros(tuple(int(side) for side in maps["shape"]), np.int32)
        _paint(canvas, boxes[order], maps["masks"][order].astype(np.float32))
        labels, _, ids = relabel(largest_parts(canvas, SMALLEST))
        chosen = order[ids - 1]
        types = np.maximum(maps["labels"][chosen], 0).astype(np.int64) if self.types else None
        height, width = canvas.shape
        return Instances((height, width), labels=labels, types=types, scores=scores[chosen])


class MaskStitcher:
    """Merges the detections of overlapping tiles; each nucleus is taken from one tile that contains it completely.

    As in Graham et al. 2019, section VI, each tile contributes only nuclei away from its border. A detection whose box
    touches a tile border inside the image is dropped, and one whose centre is outside the part that the tile keeps is
    left to the neighbouring tile. Two tiles never agree to the last pixel, so a centre on the seam may belong to both
    or to neither: detections up to `band` px outside the kept part serve as substitutes, and near the seams a detection
    that overlaps one from another tile is dropped.

    Tiles must overlap by more than the largest nucleus; otherwise it touches a border in every tile.

    Args:
        shape: (H, W) of the image in pixels.
        band: Pixels on both sides of a seam within which two tiles may disagree about a centre.
        same: Boxes of two tiles with a larger intersection over union are considered the same nucleus.
    """

    def __init__(self, shape: tuple[int, int], *, band: float = 8.0, same: float = 0.3) -> None:
        self._shape = shape
        self._band = band
        self._same = same
        self._tiles: list[Maps] = []

    def begin(self, plan: Sequence[Window]) -> Sequence[Window]:
        """Return all tiles."""
        return plan

    def add(self, window: Window, output: Maps) -> None:
        """Add the detections of one tile, in the tile's coordinates."""
        boxes = output["boxes"] + np.array([window.left, window.top] * 2, np.float32)
        inside, seen = _clip(boxes, self._shape)
        x, y = (inside[:, 0] + inside[:, 2]) / 2, (inside[:, 1] + inside[:, 3]) / 2
        top, left, bottom, right = window.keep
        # Positive outside the kept part, which is half-open: a centre on the seam belongs to the next tile.
        beyond = np.maximum.reduce([top - y, y - bottom, left - x, x - right])
        owned = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        # A mirrored nucleus that extends into the image is not counted: most of it is outside.
        chosen = ~self._cut(boxes, window) & (seen > 0.25) & (owned | (beyond <= self._band))
        tile = {name: value[chosen] for name, value in output.items() if name != "shape"}
        # Deep enough to include everything that the neighbour's substitutes are compared with.
        seam = beyond[chosen] >= -2 * self._band
        tile |= {"boxes": boxes[chosen], "_owned": owned[chosen], "_seam": seam}
        tile["_tile"] = np.full(int(chosen.sum()), len(self._tiles), np.int64)
        self._tiles.append(tile)

    def _cut(self, boxes: NDArray[np.float32], window: Window) -> NDArray[np.bool_]:
        """Mark the boxes that touch a border of the tile inside the image."""
        bottom, right = window.top + window.height, window.left + window.width
        cut = np.zeros(len(boxes), bool)
        if window.left > 0:
            cut |= boxes[:, 0] < window.left + 1
        if window.top > 0:
            cut |= boxes[:, 1] < window.top + 1
        if right < self._shape[1]:
            cut |= boxes[:, 2] > right - 1
        if bottom < self._shape[0]:
            cut |= boxes[:, 3] > bottom - 1
        return cut

    def finish(self) -> Maps:
        """Return the detections of the whole image, in its coordinates; see `MaskCodec` for the fields."""
        maps = {name: np.concatenate([tile[name] for tile in self._tiles]) for name in self._tiles[0]}
        owned, seam, tile = maps.pop("_owned"), maps.pop("_seam"), maps.pop("_tile")
        near = np.flatnonzero(seam)
        near = near[np.lexsort((-maps["scores"][near], ~owned[near]))]
        kept = ~seam
        kept[near[suppress(maps["boxes"][near], tile[near], self._same)]] = True
        maps = {name: value[kept] for name, value in maps.items()}
        return maps | {"shape": np.array(self._shape, np.int64)}


def _zeros(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array of zeros that occupies memory only where it is written to.

    The masks of a whole image are nearly all background: 865 nuclei in 1000 x 1000 px take 56 MB and 0.09 s this way,
    but 875 MB and 2.6 s with `numpy.zeros`, which requests pages of 2 MB.
    """
    size = math.prod(shape)
    if not size:
        return np.zeros(shape, np.uint8)
    return np.frombuffer(mmap.mmap(-1, size), np.uint8).reshape(shape)


def _clip(boxes: NDArray[np.float32], shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clip boxes (K, 4) to an image of (H, W) px; also return the fraction (K,) of their area inside."""
    limits = np.array([shape[1], shape[0]] * 2, np.float32)
    inside = np.clip(boxes, 0, limits)

    def area(corners: NDArray[np.float32]) -> NDArray[np.float32]:
        sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
        return np.asarray(sides[:, 0] * sides[:, 1], np.float32)

    share = area(inside) / np.maximum(area(boxes), 1e-6)
    return inside, share.astype(np.float32)


def largest_parts(labels: LabelMap, smallest: int) -> LabelMap:
    """Keep the largest connected part (8-neighbours) of every nucleus.

    Args:
        labels: int32 (H, W), 0 = background, gaps allowed.
        smallest: Parts of fewer pixels are removed.

    Returns:
        int32 (H, W) with the ids of `labels`.
    """
    parts, _ = connected_components(labels, 8)
    flat = parts.ravel()
    area = np.bincount(flat)
    owner = np.zeros(len(area), np.int64)
    owner[flat] = labels.ravel()
    order = np.lexsort((-area, owner))
    first = np.ones(len(order), bool)
    first[1:] = owner[order][1:] != owner[order][:-1]
    kept = np.zeros(len(area), bool)
    kept[order[first]] = True
    kept &= area >= smallest
    return np.where(kept[parts], labels, 0).astype(np.int32)


def suppress(boxes: NDArray[np.float32], groups: NDArray[np.int64], overlap: float) -> NDArray[np.bool_]:
    """Suppress non-maxima greedily: a box is dropped if it overlaps a kept one before it.

    Args:
        boxes: float32 (K, 4), (x0, y0, x1, y1) px, best first.
        groups: int64 (K,); boxes of one group do not suppress each other.
        overlap: Largest intersection over union that is tolerated.

    Returns:
        bool (K,), True where the box is kept.
    """
    if not len(boxes):
        return np.zeros(0, bool)
    return np.asarray(_suppress(np.ascontiguousarray(boxes, np.float32), groups, overlap))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]  # numba is untyped
def _suppress(boxes: Any, groups: Any, overlap: float) -> Any:
    # Boxes come best first, so each kept box removes all later ones that overlap it too much.
    count = len(boxes)
    kept = np.ones(count, np.bool_)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in range(count):
        if not kept[i]:
            continue
        for j in range(i + 1, count):
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            if width <= 0 or not kept[j]:
                continue
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if height <= 0 or groups[i] == groups[j]:
                continue
            shared = width * height
            if shared > overlap * (area[i] + area[j] - shared):
                kept[j] = False
    return kept


@numba.njit(cache=True)  # type: ignore[untyped-decorator]  # numba is untyped
def _paint(canvas: Any, boxes: Any, masks: Any) -> None:
    """Write k + 1 into the free pixels of `canvas` (H, W) that mask k of (K, M, M) covers, k = 0 first.

    The mask is interpolated between the centres of its cells, at the centre of each pixel in the box.
    """
    height, width = canvas.shape
    cells = masks.shape[1]
    for k in range(len(boxes)):
        x0, y0, x1, y1 = boxes[k]
        if x1 <= x0 or y1 <= y0:
            continue
        for row in range(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5)))):
            v = min(max((row + 0.5 - y0) / (y1 - y0) * cells - 0.5, 0.0), cells - 1.0)
            i = min(int(v), cells - 2)
            dv = v - i
            for column in range(max(0, int(np.ceil(x0 - 0.5))), min(width, int(np.ceil(x1 - 0.5)))):
                if canvas[row, column]:
                    continue
                u = min(max((column + 0.5 - x0) / (x1 - x0) * cells - 0.5, 0.0), cells - 1.0)
                j = min(int(u), cells - 2)
                du = u - j
                upper = masks[k, i, j] * (1 - du) + masks[k, i, j + 1] * du
                lower = masks[k, i + 1, j] * (1 - du) + masks[k, i + 1, j + 1] * du
                if upper * (1 - dv) + lower * dv >= 0.5:
                    canvas[row, column] = k + 1
