"""Leaderboards on Weights & Biases: a run with the tables as an artifact. Does not import torch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.mirrors.connection import WandbRun


def show_tables(files: Sequence[Path], mode: str, folder: Path) -> bool:
    """Log tables as an artifact of type ``leaderboard``, and each of them as a W&B table.

    Args:
        files: CSV and Markdown files written by `leaderboards.build.build_tables`.
        mode: ``off``, ``offline`` or ``online``.
        folder: Folder in which W&B writes its subfolder ``wandb``.

    Returns:
        Whether W&B accepted them.
    """
    if mode == "off":
        return True
    names = [path.stem for path in files if path.suffix == ".csv"]
    about: dict[str, Any] = dict.fromkeys(("name", "group", "job_type"), "leaderboard")
    about |= {"id": uuid.uuid4().hex[:16], "tags": names, "config": {"tables": names}}
    board = WandbRun(mode, folder, lambda: about)

    def tell() -> None:
        import wandb

        artifact = wandb.Artifact("leaderboard", type="leaderboard", description="Tables as CSV and Markdown.")
        for path in files:
            artifact.add_file(str(path), name=path.name)
        board.experiment.log_artifact(artifact)
        # W&B rejects the NaN of empty cells in text columns
        frames = {path.stem: _plain(pd.read_csv(path)) for path in files if path.suffix == ".csv"}
        board.experiment.log({f"leaderboard/{k}": wandb.Table(dataframe=v) for k, v in frames.items()}, step=0)

    board.tell(tell)
    taken = not board.gone
    board.close(failed=not taken)
    return taken


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace the NaN of text columns by empty text."""
    words = frame.select_dtypes(exclude="number").columns
    return frame.assign(**{name: frame[name].fillna("").astype(str) for name in words})
