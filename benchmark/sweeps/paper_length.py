"""How long a paper says that a method is trained, as a sweep file declares it, beside how long a run will be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from datamodules.reading.schema import STRICT, Count, Name, Text, check
from postproc.errors import ConfigError


@dataclass(frozen=True)
class PaperLength:
    """What a paper says of the length of a training.

    Attributes:
        source: Paper and section, with the words or the sum that give the figure.
        steps: Optimiser steps; None where the paper states epochs.
        epochs: Epochs; None where the paper states steps.
        differs: Why the runs of the sweep are trained otherwise; empty where they are trained as long.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    source: Name
    steps: Count | None = None
    epochs: Count | None = None
    differs: Text = ""

    @classmethod
    def read(cls, content: object, place: str) -> PaperLength:
        """Check what a sweep file says.

        Args:
            content: Mapping with the attributes as keys.
            place: Name of the place for messages, for example ``paper.dist of segmentation.yaml``.

        Raises:
            ConfigError: If it is no such mapping, lacks its source, or states no length or two.
        """
        if isinstance(content, Mapping) and not content.get("source"):
            raise ConfigError(f"{place} needs its source: paper and section")
        length = check(cls, content, place, ConfigError)
        if (length.steps is None) == (length.epochs is None):
            raise ConfigError(f"{place} must state either steps or epochs, a whole number above 0")
        return length

    def agrees(self, steps: int | None, epochs: int | None) -> bool:
        """Tell whether a run of so many steps and epochs (None = unknown) is as long as the paper says."""
        return steps == self.steps if self.steps is not None else epochs == self.epochs

    def text(self, steps: int | None, epochs: int | None) -> str:
        """Return a few words for the plan of a sweep, for a run of so many steps and epochs."""
        stated = f"{self.steps:,} steps" if self.steps is not None else f"{self.epochs:,} epochs"
        if self.agrees(steps, epochs):
            return f"paper: {stated}, {self.source}"
        return f"NOT the paper's {stated}, {self.source}" + (f"; {self.differs}" if self.differs else "")


__all__ = ["PaperLength"]
