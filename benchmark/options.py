"""Options of a method: keyword arguments of its constructor, checked before it is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from docstring_parser import parse as parse_docstring

from datamodules.reading.schema import LARGEST_COUNT
from models.base.method import NucleiMethod
from models.base.weights import is_weight_option
from postproc.errors import ConfigError, unknown_name


def option_defaults(kind: type[NucleiMethod]) -> dict[str, Any]:
    """Return the options of a method with their defaults."""
    return {name: p.default for name, p in inspect.signature(kind).parameters.items() if name != "task"}


def option_texts(kind: type[NucleiMethod]) -> dict[str, str]:
    """Return the description of each option of a method, from the docstrings of its class and of their bases."""
    texts: dict[str, str] = {}
    for each in kind.__mro__:
        for documented in (each.__doc__, vars(each).get("__init__").__doc__ if "__init__" in vars(each) else None):
            for param in parse_docstring(documented or "").params:
                texts.setdefault(param.arg_name, " ".join((param.description or "").replace("``", "`").split()))
    return {name: texts.get(name, "") for name in option_defaults(kind)}


def weight_options(kind: type[NucleiMethod]) -> list[str]:
    """Return the options of a method that name the source of its initial weights, one per encoder."""
    return [name for name in option_defaults(kind) if is_weight_option(name)]


def check_options(kind: type[NucleiMethod], options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options against the constructor of a method and convert strings to its types.

    Args:
        kind: The method.
        options: Name -> value; values may be strings, as typed on a command line.

    Raises:
        ConfigError: If a name is unknown, or a value has the wrong type or is out of bounds.
    """
    known = option_defaults(kind)
    hints = typing.get_type_hints(kind.__init__)
    checked = {}
    for name, value in options.items():
        if name not in known:
            raise unknown_name(f"option of {kind.card.name}", name, known)
        what = f"option {name!r} of {kind.card.name}"
        checked[name] = _convert(what, value, hints[name])
        _check_bounds(what, checked[name], known[name])
    return checked


def _check_bounds(what: str, value: Any, default: Any) -> None:
    """Reject counts below 1, and shares and weights that are negative or not finite."""
    if isinstance(default, bool) or not isinstance(default, int | float) or not isinstance(value, int | float):
        return
    least = 1 if isinstance(default, int) else 0
    if not least <= value <= LARGEST_COUNT:  # NaN is not
        raise ConfigError(f"{what} is {value!r}; give a number from {least} to {LARGEST_COUNT:,}")


def _convert(what: str, value: Any, hint: Any) -> Any:
    """Convert `value` to the type of `hint`, or raise an error that names the expected type."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in kinds:
        if kind is type(None) and value in (None, "none", "null"):
            return None
        if kind is bool and str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        if kind in (int, float) and not isinstance(value, bool):
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if kind is float or number.is_integer():
                return kind(number)
        if kind is str and isinstance(value, str):
            return value
        choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
        if value in choices:
            return value
        if choices:
            raise unknown_name(what, str(value), map(str, choices))
    expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise ConfigError(f"{what} is {value!r}; expected {expected}")
