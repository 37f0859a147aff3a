"""Leaderboards on Weights & Biases: one run with the tables as an artifact. Needs no torch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.mirrors.connection import WandbRun


def show_tables(files: Sequence[Path], mode: str, folder: Path) -> bool:
    """Log tables as an artifact of type ``leaderboard``, and each one as a table to look at.

    Args:
        files: CSV and Markdown files that `leaderboards.build.build_tables` has written.
        mode: ``off``, ``offline`` or ``online``.
        folder: W&B's files come into ``wandb`` below it.

    Returns:
        Whether W&B has taken them.
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
        # columns of words with gaps have numbers (NaN) in them, which W&B refuses beside words
        frames = {path.stem: _plain(pd.read_csv(path)) for path in files if path.suffix == ".csv"}
        board.experiment.log({f"leaderboard/{k}": wandb.Table(dataframe=v) for k, v in frames.items()}, step=0)

    board.tell(tell)
    taken = not board.gone
    board.close(failed=not taken)
    return taken


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with empty words in place of gaps in columns of words."""
    words = frame.select_dtypes(exclude="number").columns
    return frame.assign(**{name: frame[name].fillna("").astype(str) for name in words})
