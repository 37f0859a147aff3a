"""Typed schemas of user-written files, with uniform checks and messages.

A schema is a dataclass whose fields are annotated with the types below. Messages name place, key, value and the allowed
values, and are short regardless of the content of a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from postproc.errors import NucbenchError, short, unknown_name

STRICT = ConfigDict(extra="forbid")
"""``__pydantic_config__`` of schemas of user-written files: no unknown keys."""

OPEN = ConfigDict(extra="ignore")
"""``__pydantic_config__`` of schemas of stored files: keys for other readers are ignored."""

LARGEST_SEED = 2**32 - 1
"""Largest seed accepted by NumPy's generators."""

LARGEST_COUNT = 10**9
"""Upper bound for steps, epochs, images and trials."""

_PRINTED = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"

Text = Annotated[str, StringConstraints(strict=True, max_length=10_000, pattern=_PRINTED)]
"""Text without control characters other than tabs and line breaks."""
Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1000, pattern=_ONE_LINE)]
"""Single-line text."""
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
"""Kind of an error -> expected value, if the wording differs from pydantic's."""


def check(kind: type[T], content: object, place: str, error: type[NucbenchError]) -> T:
    """Return the content of a file as an instance of its schema.

    Args:
        kind: The schema.
        content: Content of the file.
        place: File, and position in it, for messages.
        error: Class of the error.

    Raises:
        NucbenchError: An `error` with one line for the first problem: an unknown or missing key, or a value of the
            wrong kind or out of bounds.
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
        schema: Any = kind  # mypy does not accept a type variable as a key of the cache
        checked: T = _adapter(schema).validate_python(dict(content))
    except ValidationError as wrong:
        raise error(_message(wrong, place)) from None
    except NucbenchError as wrong:  # from the schema's own checks
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
