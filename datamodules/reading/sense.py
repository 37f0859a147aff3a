"""Plausibility of the ids of a label map: masks read as one nucleus, and ids lost in 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.errors import DataError, InputWarning
from postproc.pixels.labels import LabelMap

CERTAIN_PARTS = 4
"""Number of parts from which a single id means a mask: a predicted nucleus may be torn into two or three."""
CLASS_MAP = (4, 20)
"""Limits for few ids in very many parts: parts per id, and parts more than ids. Annotations have up to 1.03 parts per
id, the predictions of the published methods up to 1.1."""
TORN = 1.1
"""Parts per id from which ids were probably lost in 8 bits."""
_BAND = 1 << 23
# pixels of a map by region that are checked at once


@dataclass(frozen=True)
class IdCount:
    """Ids of a label map and their connected parts.

    Attributes:
        ids: Number of different ids.
        parts: Number of 8-connected parts of one id.
        largest: The largest id.
        of_largest: Parts of the largest id.
    """

    ids: int
    parts: int
    largest: int
    of_largest: int


@dataclass
class Sense:
    """Checker of label maps that reports assumptions once.

    One value in several parts is a mask. It is labelled by connected components if the meaning is certain (true and
    false, 255, or at least `CERTAIN_PARTS`), and refused otherwise.

    Attributes:
        components: True = label every such map by its 8-connected components; False = use the ids unchanged;
            None = decide, as above.
        setting: The user's way to set `components`, for messages: an option or a key.
        masks: Files that were labelled by components.
        lost: File -> suspected problem of its ids.
    """

    components: bool | None = None
    setting: str = "--components"
    masks: list[Path] = field(default_factory=list)
    lost: dict[Path, str] = field(default_factory=dict)

    def check(self, labels: LabelMap, raw: NDArray[Any], path: Path) -> LabelMap:
        """Return a label map, or the components if it is a mask.

        Args:
            labels: int32 (H, W), ids 1..N without gaps.
            raw: (H, W), the same map as stored, with its original dtype and ids.
            path: The file, for messages.

        Returns:
            int32 (H, W), ids 1..N.

        Raises:
            DataError: If few ids have very many parts, or a single id has a few parts and may or may not be a mask.
        """
        largest = int(raw.max(initial=0))
        count = count_parts(labels)
        self._note_lost(IdCount(count.ids, count.parts, largest, count.of_largest), raw.dtype, path)
        if not self._is_mask(count, largest, raw.dtype, path):
            return labels
        from postproc.pixels.components import connected_components  # imports numba

        self.masks.append(path)
        return connected_components(labels, 8)[0]

    def check_bands(
        self, read: Callable[[int, int, int, int], NDArray[Any]], shape: tuple[int, int], path: Path
    ) -> None:
        """Check a map that is too large for memory.

        Args:
            read: Returns the pixels from (top, left) to (bottom, right).
            shape: (H, W) in pixels.
            path: The file, for messages.

        Raises:
            DataError: If it is a mask, unless `components` is False.
        """
        height, width = shape
        rows = max(1, _BAND // width)
        ids: NDArray[np.int64] = np.zeros(0, np.int64)
        extra, of_largest, largest, dtype = 0, 0, 0, np.dtype(np.int32)
        for top in range(0, height, rows):
            raw = read(top, 0, min(top + rows, height), width)
            dtype = raw.dtype
            found, parts, last = _parts(raw.astype(np.int64))
            ids = np.union1d(ids, found)
            extra += parts - len(found)  # a nucleus cut by bands is one part in each; for a mask, this counts too many
            if len(found) and found[-1] >= largest:
                of_largest = last + (of_largest if found[-1] == largest else 0)
                largest = int(found[-1])
        count = IdCount(len(ids), len(ids) + extra, largest, of_largest)
        self._note_lost(count, dtype, path)
        if self._is_mask(count, largest, dtype, path):
            raise DataError(
                f"{path}: one id ({largest}) in many parts, which is a mask too large to be labelled here; "
                "write one id per nucleus"
            )

    def tell(self) -> None:
        """Warn, in one line each, about files that were labelled and files that probably lost ids."""
        if self.masks:
            one = len(self.masks) == 1
            warnings.warn(
                f"{_listed(self.masks)} {'is a mask' if one else 'are masks'} (one value in several parts): each "
                f"connected part was read as a nucleus. If the value is the id of one nucleus: {self.setting} false",
                InputWarning,
                stacklevel=3,
            )
        for path, reason in self.lost.items():
            warnings.warn(f"{path}: {reason}", InputWarning, stacklevel=3)
        self.masks, self.lost = [], {}

    def _note_lost(self, count: IdCount, dtype: np.dtype[Any], path: Path) -> None:
        """Record maps whose ids wrapped around or saturated at the maximum of their dtype."""
        if dtype.kind != "u" or dtype.itemsize > 2 or count.ids < 2:
            return
        most = np.iinfo(dtype).max
        bits = 8 * dtype.itemsize
        if count.largest == most and count.of_largest >= CERTAIN_PARTS:
            self.lost[path] = (
                f"id {most}, the largest of {bits} bits, is in {count.of_largest} parts: ids above it were lost and "
                f"scores are wrong; write the map with more bits (16, or .npy of int32)"
            )
        elif count.ids == most or (bits == 8 and count.largest > 240 and count.parts > TORN * count.ids):
            self.lost[path] = (
                f"{count.ids} ids in {count.parts} parts, and {bits} bits hold {most} at most: ids were probably lost "
                f"and scores are wrong; write the map with more bits (16, or .npy of int32)"
            )

    def _is_mask(self, count: IdCount, value: int, dtype: np.dtype[Any], path: Path) -> bool:
        """Return whether to label a map.

        Raises:
            DataError: If this is uncertain.
        """
        if self.components is False or count.parts <= count.ids:
            return False
        if count.ids > 1:
            if count.parts < CLASS_MAP[0] * count.ids or count.parts < count.ids + CLASS_MAP[1]:
                return False
            if self.components:
                return True
            raise DataError(
                f"{path}: {count.ids} ids in {count.parts} parts, as in a map of classes; a label map has one id per "
                f"nucleus. {self.setting} true labels the parts, {self.setting} false takes the ids as they are"
            )
        if self.components or value == 255 or dtype.kind == "b" or count.parts >= CERTAIN_PARTS:
            return True
        raise DataError(
            f"{path}: one id ({value}) in {count.parts} parts, a mask of {count.parts} nuclei or one nucleus in "
            f"pieces. {self.setting} true labels the parts, {self.setting} false reads it as one nucleus"
        )


def count_parts(labels: LabelMap) -> IdCount:
    """Count ids and parts of a label map, int32 (H, W)."""
    ids, parts, last = _parts(labels)
    return IdCount(len(ids), parts, int(ids[-1]) if len(ids) else 0, last)


def _parts(labels: NDArray[np.int32] | NDArray[np.int64]) -> tuple[NDArray[np.int64], int, int]:
    """Return the ids of a map in ascending order, the number of parts, and that of the largest id."""
    from postproc.pixels.spans import find_spans, join_spans  # imports numba

    runs = find_spans(labels)
    component, parts = join_spans(runs, 8)
    ids = np.unique(runs.value).astype(np.int64)
    last = len(np.unique(component[runs.value == ids[-1]])) if len(ids) else 0
    return ids, int(parts), last


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


__all__ = ["CERTAIN_PARTS", "CLASS_MAP", "IdCount", "Sense", "count_parts"]
