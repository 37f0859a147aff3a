"""Types of nuclei from the types of their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.compiled import compiled
from postproc.pixels.labels import LabelMap
from postproc.pixels.spans import Spans, find_spans


def type_map(truth: Instances, types: int) -> NDArray[np.int64]:
    """Draw the type of each nucleus over its pixels.

    Args:
        truth: Annotation with outlines and types.
        types: Number of types T.

    Returns:
        int64 (H, W), 0 = background or nucleus without a type, else 1..T.

    Raises:
        DataError: If the annotation lacks outlines or types, or has a type beyond T.
    """
    if truth.labels is None or truth.types is None:
        missing = "outlines" if truth.labels is None else "types"
        raise DataError(f"type maps need {missing} and this annotation has none. Use a dataset with both.")
    if truth.types.size and not 0 <= truth.types.min() <= truth.types.max() <= types:
        raise DataError(f"the annotation has type {truth.types.max()}, expected 0..{types}. Set `types`.")
    table = np.concatenate([np.zeros(1, np.int64), truth.types.astype(np.int64)])
    return np.asarray(table[truth.labels], np.int64)


def majority_types(labels: LabelMap, type_map: NDArray[np.integer[Any]], types: int) -> NDArray[np.int64]:
    """Return the majority type of each nucleus' pixels.

    Background pixels (type 0) do not vote: a nucleus gets type 0 only if all its pixels are background. Ties go to the
    lower type. Both are as in the official post-processing of HoVer-Net.

    Args:
        labels: int32 (H, W), ids 1..N.
        type_map: integer (H, W), 0 = background, 1..T.
        types: Number of types T.

    Returns:
        int64 (N,), row k = id k + 1.

    Raises:
        ValueError: If the shapes differ or a pixel has a type beyond T.
    """
    if labels.shape != type_map.shape:
        raise ValueError(f"labels {labels.shape} and type map {type_map.shape} must have the same shape")
    if type_map.size and not 0 <= type_map.min() <= type_map.max() <= types:
        raise ValueError(f"type map has values {type_map.min()}..{type_map.max()}, expected 0..{types}")
    spans = find_spans(labels)
    return _winners(_count(spans, np.ascontiguousarray(type_map), int(spans.value.max(initial=0)), types))


def majority_of_probabilities(labels: LabelMap, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the majority of the most probable types of each nucleus' pixels, as `majority_types`.

    Args:
        labels: int32 (H, W), ids 1..N.
        probabilities: float (T + 1, H, W), channel 0 = background.

    Returns:
        int64 (N,), row k = id k + 1.

    Raises:
        ValueError: If the shapes differ.
    """
    if labels.shape != probabilities.shape[1:]:
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape} differ in (H, W)")
    spans = find_spans(labels)
    return _winners(_count_probable(spans, np.ascontiguousarray(probabilities), int(spans.value.max(initial=0))))


def _winners(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    if votes.shape[1] == 1:
        return np.zeros(len(votes) - 1, np.int64)
    best = votes[1:, 1:].argmax(axis=1) + 1
    return np.where(votes[1:, 1:].any(axis=1), best, 0).astype(np.int64)


@compiled
def _count(spans: Spans, type_map: NDArray[Any], count: int, types: int) -> NDArray[np.int64]:
    place, value, _ = spans
    votes = np.zeros((count + 1, types + 1), np.int64)
    for span in range(value.size):
        for kind in type_map[place[span, 0], place[span, 1] : place[span, 2]]:
            votes[value[span], kind] += 1
    return votes


@compiled
def _count_probable(spans: Spans, probabilities: NDArray[Any], count: int) -> NDArray[np.int64]:
    # Votes of the most probable class per pixel; a running maximum over the channels of each span avoids a full argmax.
    place, value, _ = spans
    channels, _, width = probabilities.shape
    votes = np.zeros((count + 1, channels), np.int64)
    top, best = np.empty(width, probabilities.dtype), np.empty(width, np.int32)
    for span in range(value.size):
        y, start, stop = place[span]
        high, kind = top[: stop - start], best[: stop - start]
        high[:] = probabilities[0, y, start:stop]
        kind[:] = 0
        for channel in range(1, channels):
            values = probabilities[channel, y, start:stop]
            for i in range(high.size):  # branch-free, so that the compiler vectorises it
                more = values[i] > high[i]
                high[i] = values[i] if more else high[i]
                kind[i] = channel if more else kind[i]
        for i in range(kind.size):
            votes[value[span], kind[i]] += 1
    return votes
