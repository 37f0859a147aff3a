"""Stored files that are broken: named and left out, so that one of them stops nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from postproc.errors import DataError


@contextmanager
def kept_going(problems: list[str] | None) -> Iterator[None]:
    """Note a file that cannot be read, and go on without it.

    Args:
        problems: Takes the message; None = the error is raised.
    """
    try:
        yield
    except DataError as error:
        if problems is None:
            raise
        problems.append(str(error))


def name_problems(problems: Iterable[str]) -> int:
    """Print a line for each broken file on the standard error and return the exit status: 1 if there are any."""
    lines = list(dict.fromkeys(problems))
    for line in lines:
        print(f"nucbench: left out: {line}", file=sys.stderr)
    return 1 if lines else 0


__all__ = ["kept_going", "name_problems"]
