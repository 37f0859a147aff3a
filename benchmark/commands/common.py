"""What several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Protocol = Literal["strict", "paper"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Mirror = Literal["off", "offline", "online"]


def filled(path: Path | None) -> Path:
    """Return a folder that the command line has filled in."""
    if path is None:
        raise ValueError("the command line fills in the folders of datasets and runs")
    return path
