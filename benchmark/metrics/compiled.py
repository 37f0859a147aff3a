"""How the hot loops of the metrics are compiled.

Only the `*_loops` modules import this, since it imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function on its first call and keep the machine code on disk for later processes."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))
