"""Typed schemas of the files that people write: one check, one form of message.

A schema is a dataclass whose fields are annotated with the types below. Its messages name place, key, value and what is
allowed, and are short whatever a file holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from postproc.errors import NucbenchError, short, unknown_name

STRICT = ConfigDict(extra="forbid")
"""What a schema of a file that people write states as ``__pydantic_config__``: no unknown keys."""

OPEN = ConfigDict(extra="ignore")
"""What a schema of a stored file states: keys that another reader looks at are passed over."""

LARGEST_SEED = 2**32 - 1
"""NumPy's generators take no larger one."""

LARGEST_COUNT = 10**9
"""Steps, epochs, images, trials: what nobody has more of."""

_PRINTED = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"

Text = Annotated[str, StringConstraints(strict=True, max_length=10_000, pattern=_PRINTED)]
"""Text without control characters but for tabs and line breaks."""
Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1000, pattern=_ONE_LINE)]
"""Text of one line."""
Flag = Annotated[bool, Field(strict=True)]
Integer = Annotated[int, Field(strict=True, ge=-LARGEST_COUNT, le=LARGEST_COUNT)]
Seed = Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)]
Count = Annotated[int, Field(strict=True, ge=1, le=LARGEST_COUNT)]
CountOrNone = Annotated[int, Field(strict=True, ge=0, le=LARGEST_COUNT)]
"""A count that may be 0."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

T = TypeVar("T")

_WORDS = {
    "mapping_type": "a mapping", "dict_type": "a mapping", "dataclass_type": "a mapping", "list_type": "a list",
    "tuple_type": "a list", "string_type": "text", "bool_type": "true or false", "int_type": "a whole number",
    "int_from_float": "a whole number", "float_type": "a number", "finite_number": "a finite number",
    "string_pattern_mismatch": "text without control characters", "string_too_long": "a shorter text",
    "string_too_short": "text that is not empty", "int_parsing_size": "a smaller whole number",
    "string_unicode": "text in UTF-8", "too_short": "something in it", "too_long": "fewer entries",
}  # fmt: skip
"""Kind of an error -> what is expected, where pydantic says it in other words than this project."""


def check(kind: type[T], content: object, place: str, error: type[NucbenchError]) -> T:
    """Return what a file says as an instance of its schema.

    Args:
        kind: The schema.
        content: What was read.
        place: File, and where in it, for messages.
        error: What is raised.

    Raises:
        NucbenchError: An `error` with one line for the first thing that is wrong: an unknown or missing key, or a value
            of another kind or out of bounds.
    """
    if not isinstance(content, Mapping):
        raise error(f"{place} must hold a mapping with {', '.join(_needed(kind))}, not {short(content)}")
    keys = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # every schema is a dataclass
    for key in content:
        if key not in keys and _config(kind).get("extra") == "forbid":
            raise error(f"{place}: {unknown_name('key', str(key), keys)}")
    for key in _needed(kind):
        if key not in content:
            raise error(f"{place} names no {key}")
    try:
        schema: Any = kind  # mypy takes no type variable for a key of the cache
        checked: T = _adapter(schema).validate_python(dict(content))
    except ValidationError as wrong:
        raise error(_message(wrong, place)) from None
    except NucbenchError as wrong:  # of a schema's own checks
        raise error(f"{place}: {wrong}") from None
    return checked


def _message(wrong: ValidationError, place: str) -> str:
    first = wrong.errors(include_url=False)[0]
    key = ".".join(short(part, quoted=False) for part in first["loc"] if part not in ("[key]",))
    where = f"{place}: {key} is {short(first['input'])}"
    if first["type"] == "missing":
        return f"{place}: {key} is missing"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{place}: unknown key {key}"
    allowed = _WORDS.get(first["type"]) or first["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{where}, expected {allowed}"


def _config(kind: type) -> ConfigDict:
    return getattr(kind, "__pydantic_config__", STRICT)


def _needed(kind: type) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


__all__ = [
    "LARGEST_COUNT", "LARGEST_SEED", "OPEN", "STRICT", "Count", "CountOrNone", "Flag", "Integer", "Name", "Number",
    "Positive", "Seed", "Text", "check",
]  # fmt: skip
