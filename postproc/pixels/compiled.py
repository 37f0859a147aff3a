"""Just-in-time compilation that preserves the function's type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays with numba at its first call, and cache the result on disk next to its file.

    Import this module only where it is used: importing numba takes a quarter of a second, which would slow down
    ``nucbench --help``.
    """
    return cast(Function, numba.njit(cache=True, nogil=True)(function))
