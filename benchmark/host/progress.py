"""Progress bars."""

from __future__ import annotations

import sys
import time
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
def countdown(what: str, show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows the number of finished and of all steps, with an estimate of the time left.

    The first call states the steps that were finished before, so that they do not count for the estimate. On a terminal
    the steps are a progress bar, otherwise a line at each tenth of them.

    Args:
        what: Name of the steps.
        show: Show anything.
    """
    if not show:
        yield lambda done, total: None
        return
    if not sys.stderr.isatty():
        yield _Lines(what)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: list[progress.TaskID] = []

        def move(done: int, total: int) -> None:
            if tasks:
                bar.update(tasks[0], completed=done)
            else:  # what was finished before is no speed
                tasks.append(bar.add_task(what, total=total, completed=done))

        yield move


class _Lines:
    """Prints a line after the first step, with an estimate, and at each tenth of all steps.

    Args:
        what: Name of the steps.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._start: tuple[int, float] | None = None
        self._tenth = -1

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._start is None:
            self._start = (done, now)
            return
        before, began = self._start
        tenth = 10 * done // max(total, 1)
        if done > before and tenth > self._tenth:
            left = duration((now - began) / (done - before) * (total - done))
            print(f"{self._what}: {done} of {total}, about {left} left", file=sys.stderr, flush=True)
            self._tenth = tenth


def duration(seconds: float) -> str:
    """Format seconds for people: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


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
