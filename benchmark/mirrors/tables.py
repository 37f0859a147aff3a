"""Leaderboards on Weights & Biases: one run with the tables as an artifact. Needs no torch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.mirrors.connection import About, Connection


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
    about = About(uuid.uuid4().hex[:16], "leaderboard", "leaderboard", "leaderboard", names, {"tables": names})
    connection = Connection(mode, folder, lambda: about)

    def tell(run: Any) -> None:
        import wandb

        artifact = wandb.Artifact("leaderboard", type="leaderboard", description="Tables as CSV and Markdown.")
        for path in files:
            artifact.add_file(str(path), name=path.name)
        run.log_artifact(artifact)

    def tables() -> dict[str, Any]:
        import wandb

        frames = {path.stem: pd.read_csv(path) for path in files if path.suffix == ".csv"}
        # columns of words with gaps have numbers (NaN) in them, which W&B refuses beside words
        return {f"leaderboard/{name}": wandb.Table(dataframe=_plain(frame)) for name, frame in frames.items()}

    taken = connection.tell(tell) and connection.log_made(tables, 0)
    connection.close(failed=not taken)
    return taken


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with empty words in place of gaps in columns of words."""
    words = frame.select_dtypes(exclude="number").columns
    return frame.assign(**{name: frame[name].fillna("").astype(str) for name in words})
