"""Match the types of foreign predictions with those of a dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from datamodules.reading.outlines import Kind, Outlines
from postproc.errors import ConfigError, DataError, unknown_name

NO_TYPE = ("", "background", "unclassified", "none", "nolabel", "nolabe")
"""Names of nuclei without a type, as compared by `plain`."""


def parse_types(pairs: Sequence[str], types: Sequence[str]) -> dict[str, int]:
    """Read pairs such as ``tumour=epithelial`` or ``1=epithelial``: foreign type -> number of ours.

    Args:
        pairs: Foreign name or number, ``=``, and a type of the dataset, or nothing for nuclei without a type.
        types: Types 1..T of the dataset.

    Raises:
        ConfigError: If a pair has another form, or names an unknown type.
    """
    known = _numbers(types)
    found = {}
    for pair in pairs:
        foreign, separator, own = pair.partition("=")
        if not separator or not foreign.strip():
            raise ConfigError(f"--types {pair!r}: give FOREIGN=TYPE, for example tumour=epithelial")
        if plain(own) and plain(own) not in known:
            raise unknown_name(f"type in --types {pair}", own, types)
        found[plain(foreign)] = known.get(plain(own), 0)
    return found


def type_numbers(
    outlines: Outlines, types: Sequence[str], given: Mapping[str, int], remedy: str = ""
) -> list[int] | None:
    """Return the type 1..T of each nucleus, 0 = without; None if no nucleus has a type or the dataset has none.

    Names are compared without case and punctuation. Numbers are those of the dataset unless the file names them.

    Args:
        outlines: The nuclei.
        types: Types 1..T of the dataset.
        given: Foreign type -> number of ours, see `parse_types`.
        remedy: Remedy for a type that is unknown, for the message; empty = that of the option ``--types``.

    Raises:
        DataError: If a type is not one of the dataset, with the remedy.
    """
    if not types or all(nucleus.kind is None for nucleus in outlines.nuclei):
        return None
    known = _numbers(types)
    numbers: dict[Kind, int] = {}
    for kind in dict.fromkeys(nucleus.kind for nucleus in outlines.nuclei):
        name = outlines.names.get(kind, str(kind)) if isinstance(kind, int) else kind or ""
        choices = [given.get(plain(str(kind))), given.get(plain(name)), known.get(plain(name))]
        if isinstance(kind, int) and kind not in outlines.names and 0 <= kind <= len(types):
            choices.append(kind)
        if plain(name) in NO_TYPE:
            choices.append(0)
        number = next((choice for choice in choices if choice is not None), None)
        if number is None:
            option = (
                f"name its counterpart with --types '{name}=TYPE', or leave it without a type with --types '{name}='"
            )
            raise DataError(f"{outlines.path}: type {name!r} is none of {', '.join(types)}; {remedy or option}")
        numbers[kind] = number
    return [numbers[nucleus.kind] for nucleus in outlines.nuclei]


def _numbers(types: Sequence[str]) -> dict[str, int]:
    return {plain(name): i for i, name in enumerate(types, start=1)}


def plain(name: str) -> str:
    """Return a name without case and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


__all__ = ["parse_types", "plain", "type_numbers"]
