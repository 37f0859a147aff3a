"""Chessboard distance maps (DIST) and their decoding by morphological dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.compiled import compiled
from postproc.pixels.dynamics import dynamics_support, dynamics_watershed
from postproc.pixels.spans import Spans, find_spans

Target = Literal["raw", "normalised"]
FloatMap = NDArray[np.float32]

GREY = 255
"""Largest level of the official post-processing, which works on 8-bit maps."""

_FAR = np.float32(1e9)  # larger than any image
P1_UNIT, P2_UNIT = 0.3, 0.1
"""Meaning of 1 in `DistanceParams` for normalised maps, as fractions of a nucleus' largest distance."""


@dataclass(frozen=True)
class DistanceParams(Params):
    """Post-processing parameters of DIST (Naylor et al. 2018, section IV-D, ranges of table I).

    As in the official code, the predicted map is truncated to whole pixels before anything else: the dynamics are
    integers, bumps of less than one level mostly become plateaus even with ``p1 = 0``, and pixels with a predicted
    distance of 1 px or more are nuclear for any `p2` below 1, so that the values 0.5 to 0.9 of table I are equivalent.

    The chessboard distance of a true nucleus often has several maxima one level above their saddle, each of which
    becomes a nucleus with ``p1 = 0``: decoding the exact distance maps of Kumar's 16 training images gives a mean PQ of
    0.894 with ``p1 = 0``, 0.992 with 1 and 0.979 with 2 (10 of CoNSeP's: 0.805, 0.983, 0.942), so 1 is the default of
    the codec. Table III reports ``p1 = 0``, selected on validation images for the authors' network, whose maps are
    smoother; it is the default of the method.

    Attributes:
        p1: Morphological dynamics that a maximum must exceed to be a nucleus (equation 4), in pixels. Normalised
            maps: in units of 0.3 of the largest distance, the step by which small nuclei rise.
        p2: Pixels whose truncated distance exceeds this are nuclear, in pixels. Normalised maps: in tenths of the
            largest distance.
    """

    p1: float = tunable(1.0, (0.0, 1.0, 2.0))
    p2: float = tunable(0.5, (0.5, 1.0))


@dataclass(frozen=True)
class FixedDynamicsParams(DistanceParams):
    """Like `DistanceParams`, but `p1` is fixed by the table row and not tuned."""

    p1: float = 1.0


class DistanceCodec(Codec[DistanceParams]):
    """Nuclei as a map of distances to the nearest pixel outside the nucleus.

    Targets and maps are ``distance``, float32 (1, H, W), in pixels or divided by the nucleus' largest distance.

    Args:
        target: ``raw`` distances in pixels (what DIST uses) or ``normalised`` to [0, 1] in each nucleus (the
            paper's alternative, section IV-C).
        line: Leave the pixels along the watershed between two nuclei empty, as in the official code at the time of
            submission (see `postproc.pixels.dynamics.dynamics_watershed`).
        params: The default parameters; None = those of `DistanceParams`. Their class defines what is tuned.

    Raises:
        ConfigError: If `target` is unknown.
    """

    params_type: ClassVar[type[Params]] = DistanceParams
    surroundings: ClassVar[int | None] = 1

    def __init__(self, target: Target = "raw", *, line: bool = False, params: DistanceParams | None = None) -> None:
        if target not in ("raw", "normalised"):
            raise ConfigError(f"distance target {target!r} is unknown. Choices: raw, normalised.")
        self.target = target
        self.line = line
        self.params = params or DistanceParams()
        self.params_type = type(self.params)  # type: ignore[misc]  # a class attribute in other codecs

    def defaults(self) -> DistanceParams:
        """Return the default parameters."""
        return self.params

    def encode(self, truth: Instances) -> Targets:
        """Return ``distance``, float32 (1, H, W).

        Raises:
            DataError: If the annotation has no outlines.
        """
        if truth.labels is None:
            raise DataError("distance maps need outlines and this annotation has none. Use a dataset with label maps.")
        distance = chessboard(truth.labels)
        if self.target == "normalised":
            distance /= np.maximum(largest(distance, truth.labels, truth.count), 1)[truth.labels]
        return {"distance": distance[None]}

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the targets themselves: the network regresses them."""
        return {"distance": np.array(targets["distance"], np.float32)}

    def decode(self, maps: Mapping[str, Array], params: DistanceParams) -> Instances:
        """Return the watershed regions of the maxima whose dynamics exceed `params.p1`.

        Args:
            maps: ``distance``, float (1, H, W).
            params: Thresholds.
        """
        levels, p1, p2 = self._levels(maps, params)
        labels = dynamics_watershed(levels, levels > p2, p1, line=self.line)
        return Instances(labels.shape, labels=labels)

    def support(self, maps: Mapping[str, Array], params: DistanceParams) -> NDArray[np.bool_]:
        """Mark the nuclear pixels and others that may influence their maxima."""
        levels, p1, p2 = self._levels(maps, params)
        return dynamics_support(levels, levels > p2, int(p2) + 1, p1)

    def _levels(self, maps: Mapping[str, Array], params: DistanceParams) -> tuple[NDArray[np.uint8], float, float]:
        """Return the map in whole levels, uint8 (H, W), and `p1` and `p2` in levels."""
        distance = np.asarray(maps["distance"][0], np.float32)
        p1, p2 = params.p1, params.p2
        if self.target == "normalised":
            distance, p1, p2 = distance * GREY, p1 * P1_UNIT * GREY, p2 * P2_UNIT * GREY
        return np.clip(distance, 0, GREY).astype(np.uint8), p1, p2


def chessboard(labels: NDArray[np.integer[Any]]) -> FloatMap:
    """Compute the chessboard distance of each nuclear pixel to the nearest pixel outside its nucleus.

    Outside means background or another nucleus within the image; the border of the image does not count. If one nucleus
    fills the image, the distance to the image border is returned instead.

    Two scans (Rosenfeld and Pfaltz 1966) over the spans of the nuclei are exact for all nuclei at once if a neighbour
    of another label counts as distance 0.

    Args:
        labels: (H, W), 0 = background; any ids.

    Returns:
        float32 (H, W) in pixels, 0 on background, 1 on the outermost pixels of a nucleus.
    """
    array = np.ascontiguousarray(labels)
    distance = np.zeros(array.shape, np.float32)
    spans = find_spans(array)
    if spans.value.size:
        _scan(array, spans, distance, down=True)
        _scan(array, spans, distance, down=False)
        if distance[0, 0] >= _FAR:
            return _from_outside(array.shape)
    return distance


@compiled
def _scan(labels: Array, spans: Spans, distance: FloatMap, down: bool) -> None:
    """Propagate distances from the preceding row and along each row, downwards or upwards."""
    place, value, _ = spans
    height, width = labels.shape
    near = np.empty(width + 2, np.float32)
    step = 1 if down else -1
    for k in range(value.size):
        span = k if down else value.size - 1 - k
        y, start, stop = place[span]
        before = y - step
        if 0 <= before < height:
            _row_before(labels[before], distance[before], value[span], start, stop, near)
        else:
            near[: stop - start] = _FAR
        row = distance[y, start:stop]
        if down:
            last = _FAR if start == 0 else np.float32(0)
            for i in range(row.size):
                last = min(last, near[i]) + np.float32(1)
                row[i] = last
        else:
            last = _FAR if stop == width else np.float32(0)
            for k in range(row.size):
                i = row.size - 1 - k
                last = min(min(last, near[i]) + np.float32(1), row[i])
                row[i] = last


@compiled
def _row_before(labels: Array, distance: Array, label: Any, start: int, stop: int, near: Array) -> None:
    """Write the smallest distance of the three neighbours in an adjacent row, for the columns of a span."""
    low, high = max(start - 1, 0), min(stop + 1, labels.size)
    theirs, values, inside = labels[low:high], distance[low:high], near[low - start + 1 : high - start + 1]
    for i in range(inside.size):  # loops from 0 over slices become vector instructions
        inside[i] = values[i] if theirs[i] == label else np.float32(0)
    if start == 0:
        near[0] = _FAR
    if stop == labels.size:
        near[stop - start + 1] = _FAR
    for i in range(stop - start):
        near[i] = min(min(near[i], near[i + 1]), near[i + 2])


def _from_outside(shape: tuple[int, int]) -> FloatMap:
    """Return the chessboard distance to the nearest pixel outside the image, float32 (H, W)."""
    rows, columns = (np.minimum(np.arange(n) + 1, n - np.arange(n)) for n in shape)
    return np.minimum(rows[:, None], columns).astype(np.float32)


@compiled
def largest(values: Array, labels: Array, count: int) -> NDArray[np.float32]:
    """Return float32 (count + 1,): the largest value of each label, 0 for labels without pixels."""
    top = np.zeros(count + 1, np.float32)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if values[y, x] > top[label]:
                top[label] = values[y, x]
    return top
