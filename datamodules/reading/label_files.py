"""Label maps and outlines of one's own images: nuclei with the types that a description names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.reading.description import (
    DESCRIPTION,
    Description,
    find_columns,
    read_description,
    rows_of,
    text_lines,
    type_number,
)
from datamodules.reading.files import read_instances, read_label_array
from datamodules.reading.matlab import instances_of_arrays, integral
from datamodules.reading.outlines import OUTLINE_SUFFIXES, draw, read_outlines
from datamodules.reading.schema import Flag, Positive
from datamodules.reading.sense import Sense
from datamodules.reading.type_names import type_numbers
from postproc.errors import DataError, short
from postproc.instances import Instances

MAP_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
"""Endings of files with one array: a label map, or a map of types."""
LABEL_SUFFIXES = (*MAP_SUFFIXES, ".mat", *OUTLINE_SUFFIXES)
"""Endings of files with nuclei."""
COMPONENTS = "components:"
_HEADERS = {
    "id": ("id", "inst_id", "label_id", "nucleus", "label"),
    "class": ("class", "type", "classification"),
}


@dataclass(frozen=True)
class MasksDescription(Description):
    """Contents of dataset.yaml of a set of masks.

    Attributes:
        radius: Distance, in pixels, within which a nucleus counts as found in F_d; None = that of the magnification,
            12 px at 40x and 6 px at 20x.
        components: Label each connected part of a mask as a nucleus, or never do so; None = a mask is an error.
    """

    radius: Positive | None = field(default=None, kw_only=True)
    components: Flag | None = field(default=None, kw_only=True)


def read_masks_description(path: Path) -> MasksDescription:
    """Read dataset.yaml, see `datamodules.reading.description.read_description`."""
    return read_description(path, MasksDescription)


def read_labels(path: Path, kinds: Path | None, shape: tuple[int, int], about: MasksDescription) -> Instances:
    """Read the nuclei of an image.

    Args:
        path: Label map or outlines, one of `LABEL_SUFFIXES`.
        kinds: Types of the nuclei of a label map: a CSV with the columns id and class, or a map with the number of a
            type, 1..T, at each pixel. None = those of `path`.
        shape: (H, W) of the image in pixels.
        about: Description of the set.

    Returns:
        Nuclei with labels, and with types if the description has types.

    Raises:
        DataError: If a file is unreadable, the map is of another size or a mask, its ids were lost in 8 bits, or a type
            is missing or unknown.
    """
    if path.suffix.lower() in OUTLINE_SUFFIXES:
        remedy = f"rename the class, or add it to types in {DESCRIPTION}"
        outlines = read_outlines(path)
        truth = draw(outlines, shape, type_numbers(outlines, about.types, {}, remedy))
    else:
        sense = Sense(about.components, COMPONENTS)
        truth = read_instances(path, sense) if kinds is None or not about.types else _typed(path, kinds, about, sense)
        _check_sense(sense)
    if truth.labels is None:
        raise DataError(f"{path}: holds centres without a label map; use the dataset points-csv")
    if truth.shape != shape:
        raise DataError(
            f"{path}: label map of {truth.shape} px (H, W) for an image of {shape} px; export both at one size"
        )
    if not about.types:
        return Instances(truth.shape, labels=truth.labels)
    return Instances(truth.shape, labels=truth.labels, types=_checked_types(path, kinds, truth, about))


def _checked_types(path: Path, kinds: Path | None, truth: Instances, about: MasksDescription) -> NDArray[np.int64]:
    """Return the types of all nuclei."""
    types = truth.types if truth.types is not None else np.zeros(truth.count, np.int64)
    if truth.count and not types.any():
        added = f", or write {path.stem.removesuffix('_labels')}_types.csv with id,class"
        raise DataError(
            f"{kinds or path}: none of {truth.count} nuclei has a class; {DESCRIPTION} names {', '.join(about.types)}. "
            f"Add the classes{'' if kinds or path.suffix.lower() in OUTLINE_SUFFIXES else added}, or state types: []"
        )
    if types.max(initial=0) > len(about.types):
        raise DataError(
            f"{kinds or path}: type {types.max()}, but {DESCRIPTION} names {len(about.types)} types "
            f"({', '.join(about.types)}); correct it, or add the type"
        )
    return types


def _check_sense(sense: Sense) -> None:
    """Raise an error for what a prediction may be but an annotation should not."""
    if sense.masks and sense.components is None:
        raise DataError(
            f"{sense.masks[0]}: a mask (one value in several parts), not a label map; write one id per nucleus, or "
            f"state components: true in {DESCRIPTION} to read each connected part as a nucleus"
        )
    for path, reason in sense.lost.items():
        raise DataError(f"{path}: {reason}")


def _typed(path: Path, kinds: Path, about: MasksDescription, sense: Sense) -> Instances:
    """Read a label map with its types from a second file."""
    arrays: dict[str, NDArray[Any]] = {"inst_map": _array(path)}
    if kinds.suffix.lower() != ".csv":
        drawn = integral(read_label_array(kinds), kinds)
        if drawn.shape != arrays["inst_map"].shape:
            raise DataError(
                f"{kinds}: map of {drawn.shape} px (H, W) for a label map of {arrays['inst_map'].shape} px; export "
                "both at one size"
            )
        if drawn.max(initial=0) > len(about.types):
            raise DataError(
                f"{kinds}: type {drawn.max()}, but {DESCRIPTION} names {len(about.types)} types "
                f"({', '.join(about.types)}); write 1 for the first"
            )
        return instances_of_arrays(path, {**arrays, "type_map": drawn}, sense)
    listed = _read_types(kinds, about.types)
    ids = np.unique(integral(arrays["inst_map"], path))
    ids = ids[ids > 0]
    missing = sorted(set(ids.tolist()) - set(listed))
    if missing:
        more = f" and {len(missing) - 1} more ids" if missing[1:] else ""
        raise DataError(
            f"{kinds}: no line for id {missing[0]} of {path.name}{more}; add it, with an empty class if the type is "
            "unknown"
        )
    unknown = sorted(set(listed) - set(ids.tolist()))
    if unknown:
        raise DataError(f"{kinds}: id {unknown[0]} is not in {path.name}; remove the line, or export both again")
    read_instances(path, sense)  # checks that it is no mask
    if sense.masks:
        raise DataError(f"{path}: a mask has no ids that {kinds.name} could name; write one id per nucleus")
    types = np.array([listed[number] for number in ids.tolist()], np.int64)
    return instances_of_arrays(path, {**arrays, "inst_type": types[:, None], "inst_id": ids[:, None]})


def _array(path: Path) -> NDArray[Any]:
    if path.suffix.lower() == ".mat":
        raise DataError(f"{path}: a .mat file holds its types itself (inst_type); remove the file with types")
    return read_label_array(path)


def _read_types(path: Path, types: tuple[str, ...]) -> dict[int, int]:
    """Read a CSV with the type of each nucleus: id -> 1..T, 0 = unknown; a class is a name or a number."""
    lines = text_lines(path)
    if not lines:
        raise DataError(f"{path}: the file is empty; its first line is id,class")
    columns = find_columns(path, lines[0], _HEADERS)
    numbers: Mapping[str, int] = {str(kind): kind for kind in range(len(types) + 1)}
    found: dict[int, int] = {}
    for number, row in rows_of(path, lines, columns):
        where = f"{path}, line {number}"
        text = row["id"]
        nucleus = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
        if not 0 < nucleus < 2**31:
            raise DataError(f"{where}: id is {short(text)}, expected the id of a nucleus; correct the line")
        if nucleus in found:
            raise DataError(f"{where}: id {nucleus} is in two lines; remove one")
        named = {name.casefold() for name in types}
        is_number = row["class"] in numbers and row["class"].casefold() not in named
        found[nucleus] = numbers[row["class"]] if is_number else type_number(where, row["class"], types)
    return found


__all__ = ["LABEL_SUFFIXES", "MAP_SUFFIXES", "MasksDescription", "read_labels", "read_masks_description"]
