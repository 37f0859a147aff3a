"""Where a run is shown: a W&B run, TensorBoard's event files. Nothing that fails in one reaches its caller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from benchmark.mirrors.connection import Connection, warn
from benchmark.mirrors.pictures import Picture
from postproc.errors import ConfigError

Shown = Mapping[str, "list[Picture] | pd.DataFrame"]
"""Pictures and tables by name."""


class Sink(Protocol):
    """Where a run is shown. Every function returns whether it was taken."""

    name: str

    def begin(self, step: int) -> None:
        """Expect values from a step on; what a killed run has shown beyond it comes again."""

    def row(self, values: Mapping[str, float], step: int) -> bool:
        """Show numbers of a step."""

    def figures(self, values: Mapping[str, float], step: int) -> bool:
        """Show numbers that stand for the whole run, known at a step."""

    def settings(self, values: Mapping[str, Any]) -> bool:
        """Add to the configuration; JSON types."""

    def show(self, values: Shown, step: int) -> bool:
        """Show pictures and tables."""

    def close(self, *, failed: bool) -> None:
        """Write what is left."""


class Wandb:
    """Shows a run on W&B.

    Args:
        connection: The W&B run.
    """

    name = "wandb"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, step: int) -> None:
        """Do nothing: W&B leaves out what it has."""

    def row(self, values: Mapping[str, float], step: int) -> bool:
        """Add numbers to the history."""
        return self._connection.log(_finite(values), step)

    def figures(self, values: Mapping[str, float], step: int) -> bool:
        """Set the summary."""
        return self._connection.summarise(_finite(values))

    def settings(self, values: Mapping[str, Any]) -> bool:
        """Add to the configuration."""
        return self._connection.configure(values)

    def show(self, values: Shown, step: int) -> bool:
        """Add pictures and tables to the history."""

        def media(value: list[Picture] | pd.DataFrame) -> Any:
            import wandb

            if isinstance(value, pd.DataFrame):
                return wandb.Table(dataframe=value)
            return [wandb.Image(each.pixels, caption=each.caption, file_type="jpg") for each in value]

        return self._connection.log_made(lambda: {name: media(value) for name, value in values.items()}, step)

    def close(self, *, failed: bool) -> None:
        """End the W&B run."""
        self._connection.close(failed=failed)


class TensorBoard:
    """Shows a run in TensorBoard's event files: numbers, pictures, parameters; the tables stay in the run directory.

    Args:
        folder: Where the files come.

    Raises:
        ConfigError: If tensorboard is not installed.
    """

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("--tensorboard needs tensorboard: pip install 'nucbench[tensorboard]'") from None
        self._kind = SummaryWriter
        self._folder = folder
        self._writer: Any = None
        self._purge: int | None = None
        self._gone = False

    def begin(self, step: int) -> None:
        """Let TensorBoard forget what a killed run has written from this step on."""
        self._purge = step or None

    def row(self, values: Mapping[str, float], step: int) -> bool:
        """Write numbers of a step."""
        return self._write(lambda writer: [writer.add_scalar(k, v, step) for k, v in _finite(values).items()])

    def figures(self, values: Mapping[str, float], step: int) -> bool:
        """Write numbers that stand for the whole run."""
        return self.row(values, step)

    def settings(self, values: Mapping[str, Any]) -> bool:
        """Write settings as text."""
        return self._write(lambda writer: [writer.add_text(k, f"`{v}`") for k, v in values.items()])

    def show(self, values: Shown, step: int) -> bool:
        """Write pictures."""

        def write(writer: Any) -> None:
            for name, pictures in values.items():
                for i, each in enumerate(pictures if isinstance(pictures, list) else []):
                    writer.add_image(f"{name}/{i}", each.pixels, step, dataformats="HWC")

        return self._write(write)

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        if self._writer is not None:
            self._write(lambda writer: writer.close())

    def _write(self, action: Any) -> bool:
        if self._gone:
            return False
        try:
            if self._writer is None:
                self._writer = self._kind(str(self._folder), purge_step=self._purge)
            action(self._writer)
        except Exception as error:  # a full disk, a broken installation: the run goes on
            self._gone = True
            warn(f"gives up ({type(error).__name__}: {error}); the run goes on", of="TensorBoard")
            return False
        return True


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out what no chart can show."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
