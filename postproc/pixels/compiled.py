"""Just-in-time compilation that keeps the type of what it compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays with numba at its first call, and keep the result on disk beside its file.

    Import this where it is used only: numba takes a quarter of a second, which ``nucbench --help`` must not
    pay.
    """
    return cast(Function, numba.njit(cache=True, nogil=True)(function))
