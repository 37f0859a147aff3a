"""Loggers beside the run directory: Weights & Biases as a mirror, never as the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytorch_lightning.loggers import Logger

from benchmark.spec import RunSpec


@contextmanager
def loggers(mirror: str, spec: RunSpec, runs: Path) -> Iterator[list[Logger]]:
    """Give the loggers of a run, and finish its W&B run when the block ends.

    Args:
        mirror: ``off``, ``offline`` or ``online``.
        spec: The run; its resolved form becomes the W&B configuration, its id the W&B run.
        runs: Folder of all runs; W&B's files lie below the run's own folder.
    """
    if mirror == "off":
        yield []
        return
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    folder = runs / spec.run_id
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    run = wandb.init(
        project="nucbench",
        id=spec.run_id.replace("/", "-"),
        name=spec.run_id,
        group=spec.method,
        dir=folder,
        mode="online" if mirror == "online" else "offline",
        resume="allow",
        config=spec.to_dict(),
        reinit="finish_previous",
    )
    try:
        yield [WandbLogger(experiment=run)]
    finally:
        run.finish()
