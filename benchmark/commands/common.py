"""Types and helpers shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Protocol = Literal["strict", "paper"]
AnyProtocol = Literal["external", "strict", "paper"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

DEFAULT = "default"
"""Name of the shipped model that commands use if none is given."""


def filled(path: Path | None) -> Path:
    """Return a folder that the command line has set."""
    if path is None:
        raise ValueError("the command line must set the folders of datasets and runs")
    return path
