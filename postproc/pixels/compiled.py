"""Just-in-time compilation that preserves the function's type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
Index = dict[Any, str]
"""Signature -> file of its compiled code."""


def compiled(function: Function) -> Function:
    """Compile a function of arrays with numba at its first call, and cache the result on disk next to its file.

    Import this module only where it is used: importing numba takes a quarter of a second, which would slow down
    ``nucbench --help``.
    """
    dispatcher = numba.njit(cache=True, nogil=True)(function)
    file = dispatcher._cache._cache_file
    file._load_index = _without_stale(file._load_index)
    return cast(Function, dispatcher)


def _without_stale(load: Callable[[], Index]) -> Callable[[], Index]:
    """Let numba compile again what an earlier version of this package has cached and names that have since moved.

    Numba checks the age of an index only after unpickling it, which imports what the index names.
    """

    def load_or_forget() -> Index:
        try:
            return load()
        except (ImportError, AttributeError):
            return {}

    return load_or_forget
