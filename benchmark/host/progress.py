"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def track(items: Sequence[T], what: str, show: bool = True) -> Iterable[T]:
    """Iterate over `items` with a progress bar, or a single line if the output is not a terminal."""
    if not show:
        return items
    if not sys.stderr.isatty():
        print(f"{what}: {len(items)}", file=sys.stderr, flush=True)
        return items
    from rich.console import Console
    from rich.progress import track as bar

    return bar(items, description=what, console=Console(stderr=True))


@contextmanager
def byte_bar(what: str, done: int, total: int | None, show: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a byte progress bar, or print one line if the output is not a terminal.

    Args:
        what: Name of the file.
        done: Bytes already present.
        total: Total bytes; None = unknown.
        show: Show the bar or the line.
    """
    if not show or not sys.stderr.isatty():
        if show:
            size = "" if total is None else f" of {total / 1e6:.1f} MB"
            print(f"downloading {what}{size}, starting at byte {done}", file=sys.stderr, flush=True)
        yield lambda count: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn(),
        progress.TransferSpeedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
