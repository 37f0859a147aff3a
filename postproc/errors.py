"""Errors meant for people: each names the file or key, the value, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NucbenchError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(NucbenchError):
    """A setting, name or combination that cannot work (exit status 2)."""


class BusyError(ConfigError):
    """A run that another process is working on."""


class DataError(NucbenchError):
    """A file or folder that is missing, unreadable or inconsistent."""


def nearest(name: str, choices: Iterable[str]) -> list[str]:
    """Return the choice that is most like a name, alone in a list; none if all are too different."""
    return difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> ConfigError:
    """Build the error for a name that is in no registry, with the nearest one.

    Args:
        kind: What the name was meant to be, for example ``"method"``.
        name: The name as given.
        choices: The names that exist.
    """
    known = sorted(choices)
    near = nearest(name.lower(), known)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown {kind} {name!r}.{hint} Choices: {', '.join(known)}.")
