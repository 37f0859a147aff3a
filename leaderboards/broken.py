"""Skip and report broken stored files, so that one of them does not stop the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from postproc.errors import DataError


@contextmanager
def kept_going(problems: list[str] | None) -> Iterator[None]:
    """Record a file that cannot be read, and continue without it.

    Args:
        problems: Collects the message; None = raise the error.
    """
    try:
        yield
    except DataError as error:
        if problems is None:
            raise
        problems.append(str(error))


def name_problems(problems: Iterable[str]) -> int:
    """Print one line per broken file to standard error; return the exit status, 1 if there are any."""
    lines = list(dict.fromkeys(problems))
    for line in lines:
        print(f"nucbench: left out: {line}", file=sys.stderr)
    return 1 if lines else 0


__all__ = ["kept_going", "name_problems"]
