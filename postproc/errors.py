"""Errors meant for people: each names the file or key, the value, and the remedy."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

LONGEST = 60
"""Maximum number of characters of a value in a message."""


MOST_CHOICES = 60
"""Maximum number of choices that a message lists completely."""
SIMILAR = 8
"""Number of choices that a message lists of more than `MOST_CHOICES`: those most similar to the given name."""


class NucbenchError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(NucbenchError):
    """An invalid setting, name or combination (exit status 2)."""


class BusyError(ConfigError):
    """A run that another process is already using."""


class DataError(NucbenchError):
    """A file or folder that is missing, unreadable or inconsistent."""


class InputWarning(UserWarning):
    """What was assumed of a file, or looks wrong in it; the command line prints it in one line."""


class _Short(reprlib.Repr):
    """`repr` limited to the first few elements, however large the value."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxset = 2, 3, 4, 4, 4
        self.maxstring = LONGEST

    def repr_int(self, x: int, level: int) -> str:
        """Return an integer; Python refuses to print integers of thousands of digits."""
        return repr(x) if abs(x) < 10**20 else "a number of more than 20 digits"


_SHORT = _Short()


def short(value: object, *, quoted: bool = True) -> str:
    """Format a value for a message: on one line, printable and of bounded length.

    Args:
        value: Value from a file or from the user.
        quoted: Keep the quotes around text.
    """
    text = _SHORT.repr(value)
    if isinstance(value, str) and not quoted:
        text = text[1:-1]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def one_line(text: str, longest: int = 200) -> str:
    """Format the message of a library: on one line, printable and of bounded length."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= longest else f"{flat[:longest]}…"


def nearest(name: str, choices: Iterable[str]) -> list[str]:
    """Return a list with the choice closest to a name; empty if no choice is similar."""
    return difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> ConfigError:
    """Build the error for an unknown name, with the closest known one as a hint.

    Args:
        kind: What the name should refer to, for example ``"method"``.
        name: The name as given.
        choices: The known names.
    """
    known = sorted(choices)
    near = nearest(name[:LONGEST].lower(), known)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(known) > MOST_CHOICES:
        similar = difflib.get_close_matches(name[:LONGEST].lower(), known, n=SIMILAR, cutoff=0)
        choices = f"{', '.join(similar)} and {len(known) - len(similar)} more"
    else:
        choices = ", ".join(known)
    return ConfigError(f"unknown {kind} {short(name)}.{hint} Choices: {choices}.")
