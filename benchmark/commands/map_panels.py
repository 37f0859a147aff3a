"""Titles, units and value kinds of network output maps, for pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from leaderboards.plots.maps import Kind, MapPanel
from postproc.codec import Maps, Params
from postproc.codecs.attention import AttentionCodec, AttentionParams, clean
from postproc.codecs.distance import DistanceCodec
from postproc.codecs.typed import TypedCodec
from postproc.errors import ConfigError

if TYPE_CHECKING:
    from models.base.method import NucleiMethod

Array = NDArray[np.float32]

NUCLEUS = "Probability of nucleus"
SINGLE: dict[str, tuple[str, Kind, str]] = {
    "np": (NUCLEUS, "share", ""),
    "foreground": (NUCLEUS, "share", ""),
    "object": (NUCLEUS, "share", ""),
    "contour": ("Probability of contour", "share", ""),
    "likelihood": ("Likelihood of a centre", "share", ""),
    "proximity": ("Proximity to a centre", "amount", "1 at centres"),
    "density": ("Density of centres", "amount", "1 at centres"),
}
"""Name of a single-channel map -> title, kind and unit."""
BY_TYPE = {"probability": "Probability of", "proximity": "Proximity:", "density": "Density:", "types": "Probability of"}
"""Name of a map with one channel per type -> beginning of the titles."""
TYPES_LAST = ("tp", "types")
"""Maps that classify nuclei, drawn after those that detect them."""
CLASSES = ("outside", "inside", "boundary")
"""Channels of the map ``classes`` (`postproc.codecs.region_growing`)."""


def panels_of(method: NucleiMethod, variant: str, maps: Maps, params: Params) -> list[MapPanel]:
    """Return the panels to draw for the maps of one image.

    Args:
        method: The method.
        variant: Its post-processing.
        maps: Output of `benchmark.forward.maps.predict_maps`.
        params: Parameters of the post-processing.

    Raises:
        ConfigError: If a map is unknown.
    """
    if "boxes" in maps:
        return _detections(maps, params)
    codec = method.codecs[variant]
    codec = codec.outlines if isinstance(codec, TypedCodec) else codec
    panels: list[MapPanel] = []
    for name in sorted(maps, key=lambda name: (name in TYPES_LAST, name not in SINGLE)):  # equal ones as they come
        values = np.asarray(maps[name], np.float32)
        special = SPECIAL.get(name)
        panels += special(values, codec, params) if special else _plain(name, values, method)
    return panels


def _plain(name: str, values: Array, method: NucleiMethod) -> list[MapPanel]:
    """Return a panel for each channel that is a class, a type, or the only channel."""
    types, channels = method.task.types, len(values)
    if name == "tp" or (name == "foreground" and channels > 1):  # channel 0 is the background
        names = types if channels == len(types) + 1 else ("nucleus",)
        if channels != len(names) + 1:
            raise ConfigError(f"{method.card.name}: map {name} has {channels} channels, expected {len(names) + 1}")
        return [MapPanel(f"Probability of {kind}", values[k + 1], "share") for k, kind in enumerate(names)]
    if name in BY_TYPE and channels == len(types) and channels:
        kind = "share" if "Probability" in BY_TYPE[name] else SINGLE[name][1]
        unit = "" if kind == "share" else SINGLE[name][2]
        return [MapPanel(f"{BY_TYPE[name]} {each}", values[k], kind, unit) for k, each in enumerate(types)]
    if name in ("probability", *SINGLE) and channels == 1:
        title, kind, unit = SINGLE.get(name, (NUCLEUS, "share", ""))
        return [MapPanel(title, values[0], kind, unit)]
    raise ConfigError(f"{method.card.name}: cannot draw the unknown map {name!r} with {channels} channels")


def _distance(values: Array, codec: Any, params: Params) -> list[MapPanel]:
    raw = not isinstance(codec, DistanceCodec) or codec.target == "raw"
    if raw:
        return [MapPanel("Distance to the outside", values[0], "amount", "px")]
    return [MapPanel("Normalised distance", values[0], "amount", "share of the largest")]


def _hover(values: Array, codec: Any, params: Params) -> list[MapPanel]:
    titles = ("Horizontal distance", "Vertical distance")
    return [MapPanel(title, part, "signed", "of the half width") for title, part in zip(titles, values, strict=True)]


def _classes(values: Array, codec: Any, params: Params) -> list[MapPanel]:
    return [MapPanel(f"Probability of {name}", part, "share") for name, part in zip(CLASSES, values, strict=False)]


def _rays(values: Array, codec: Any, params: Params) -> list[MapPanel]:
    shown = [("Mean distance to the outline", values.mean(axis=0)), ("Distance along the first ray", values[0])]
    return [MapPanel(title, part, "amount", "px") for title, part in shown]


def _attention(values: Array, codec: Any, params: Params) -> list[MapPanel]:
    """Return the confidence and, as in figure 2 of the paper, the smoothed distance transform that is split."""
    panels = [MapPanel("Confidence of attention", values[0], "signed", "over the threshold")]
    if isinstance(codec, AttentionCodec) and isinstance(params, AttentionParams):
        tau = 0.0 if params.percentile is None else float(np.percentile(values[0], params.percentile))
        mask = clean((values[0] > tau).astype(np.uint8), params.coarse, params.fine)
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        smooth = cv2.GaussianBlur(distance, (0, 0), params.sigma) if params.sigma > 0 else distance
        panels.append(MapPanel("Distance transform of the attention", smooth, "amount", "px"))
    return panels


SPECIAL: dict[str, Callable[[Array, Any, Params], list[MapPanel]]] = {
    "distance": _distance,
    "hv": _hover,
    "classes": _classes,
    "rays": _rays,
    "attention": _attention,
}
"""Name of a map -> function that makes its panels, for maps whose channels differ in meaning."""


def _detections(maps: Maps, params: Params) -> list[MapPanel]:
    """Return the masks of a box detector: all detections, and those above the confidence threshold."""
    certain = float(getattr(params, "confidence", 0.0))
    scores = np.asarray(maps["scores"], np.float32)
    every, kept = _painted(maps, range(len(scores))), _painted(maps, np.flatnonzero(scores >= certain).tolist())
    return [
        MapPanel(f"Masks of all detections ({len(scores)} in the image)", every, "share", "probability"),
        MapPanel(f"Masks, score {certain:g} and more", kept, "share", "probability"),
        MapPanel("Score of the box", _painted(maps, range(len(scores)), flat=True), "share", "score"),
    ]


def _painted(maps: Maps, rows: Sequence[int] | range, *, flat: bool = False) -> Array:
    """Paint masks (with `flat`, scores over whole boxes) into (H, W); the largest value wins where they overlap."""
    height, width = (int(side) for side in maps["shape"])
    canvas = np.zeros((height, width), np.float32)
    boxes = np.asarray(maps["boxes"], np.float32)
    for row in rows:
        if not np.isfinite(boxes[row]).all():
            continue
        left, top = (int(value) for value in np.floor(boxes[row, :2]))
        right, bottom = (int(value) for value in np.ceil(boxes[row, 2:]))
        size = (max(right - left, 1), max(bottom - top, 1))
        mask = np.asarray(maps["masks"][row], np.float32)
        part = np.full(size[::-1], float(maps["scores"][row]), np.float32) if flat else cv2.resize(mask, size)
        rows_in, columns_in = (
            slice(max(top, 0), min(top + size[1], height)),
            slice(max(left, 0), min(left + size[0], width)),
        )
        if rows_in.start >= rows_in.stop or columns_in.start >= columns_in.stop:
            continue
        seen = part[rows_in.start - top : rows_in.stop - top, columns_in.start - left : columns_in.stop - left]
        np.maximum(canvas[rows_in, columns_in], seen, out=canvas[rows_in, columns_in])
    return canvas


__all__ = ["panels_of"]
