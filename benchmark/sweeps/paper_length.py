"""Training length stated by a paper, declared in a sweep file, compared with the length of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from datamodules.reading.schema import STRICT, Count, Name, Text, check
from postproc.errors import ConfigError


@dataclass(frozen=True)
class PaperLength:
    """Training length stated by a paper.

    Attributes:
        source: Paper and section, with the words or the calculation behind the figure.
        steps: Optimiser steps; None if the paper states epochs.
        epochs: Epochs; None if the paper states steps.
        differs: Why the runs of the sweep have another length; empty if they have the same.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    source: Name
    steps: Count | None = None
    epochs: Count | None = None
    differs: Text = ""

    @classmethod
    def read(cls, content: object, place: str) -> PaperLength:
        """Check an entry of a sweep file.

        Args:
            content: Mapping with the attributes as keys.
            place: Name of the entry in messages, for example ``paper.dist of segmentation.yaml``.

        Raises:
            ConfigError: If it is not such a mapping, has no source, or does not state exactly one length.
        """
        if isinstance(content, Mapping) and not content.get("source"):
            raise ConfigError(f"{place} needs its source: paper and section")
        length = check(cls, content, place, ConfigError)
        if (length.steps is None) == (length.epochs is None):
            raise ConfigError(f"{place} must state either steps or epochs, a whole number above 0")
        return length

    def agrees(self, steps: int | None, epochs: int | None) -> bool:
        """Tell whether a run with these steps and epochs (None = unknown) has the length of the paper."""
        return steps == self.steps if self.steps is not None else epochs == self.epochs

    def text(self, steps: int | None, epochs: int | None) -> str:
        """Return a short text for the plan of a sweep, for a run with these steps and epochs."""
        stated = f"{self.steps:,} steps" if self.steps is not None else f"{self.epochs:,} epochs"
        if self.agrees(steps, epochs):
            return f"paper: {stated}, {self.source}"
        return f"NOT the paper's {stated}, {self.source}" + (f"; {self.differs}" if self.differs else "")


__all__ = ["PaperLength"]
