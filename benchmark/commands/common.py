"""Types and helpers shared by several commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Protocol = Literal["strict", "paper"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Mirror = Literal["off", "offline", "online"]


def mirrored(wandb: Mirror | None) -> Mirror:
    """Return how to mirror a run to W&B: as requested, else as set in WANDB_MODE, else offline."""
    if wandb is not None:
        return wandb
    mode = os.environ.get("WANDB_MODE", "").lower()
    return "online" if mode == "online" else "off" if mode == "disabled" else "offline"


def filled(path: Path | None) -> Path:
    """Return a folder that the command line has set."""
    if path is None:
        raise ValueError("the command line must set the folders of datasets and runs")
    return path
