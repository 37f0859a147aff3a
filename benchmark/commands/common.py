"""What several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Protocol = Literal["strict", "paper"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Mirror = Literal["off", "offline", "online"]


def mirrored(wandb: Mirror | None) -> Mirror:
    """Return how a run is mirrored to W&B: as asked for, else as WANDB_MODE says, else offline."""
    if wandb is not None:
        return wandb
    mode = os.environ.get("WANDB_MODE", "").lower()
    return "online" if mode == "online" else "off" if mode == "disabled" else "offline"


def filled(path: Path | None) -> Path:
    """Return a folder that the command line has filled in."""
    if path is None:
        raise ValueError("the command line fills in the folders of datasets and runs")
    return path
