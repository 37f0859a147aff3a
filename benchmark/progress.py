"""Progress bars that say what is being done."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def track(items: Sequence[T], what: str, show: bool = True) -> Iterable[T]:
    """Iterate over `items` with a progress bar on the terminal, or one line where there is no terminal."""
    if not show:
        return items
    if not sys.stderr.isatty():
        print(f"{what}: {len(items)}", file=sys.stderr, flush=True)
        return items
    from rich.console import Console
    from rich.progress import track as bar

    return bar(items, description=what, console=Console(stderr=True))
