"""`ProgressBar`: Lightning's bar, without what says nothing here."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Shows epoch, steps and scores of a training phase."""

    def _get_train_description(self, current_epoch: int) -> str:
        """Return the title of an epoch; phases are as long as their steps, and Lightning knows no last epoch."""
        return f"Epoch {current_epoch}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the metrics of the bar; the run directory is the version, and the epoch's mean repeats the loss."""
        metrics: dict[str, Any] = dict(super().get_metrics(trainer, pl_module))
        return {name: value for name, value in metrics.items() if name not in ("v_num", "train/loss_epoch")}


__all__ = ["ProgressBar"]
