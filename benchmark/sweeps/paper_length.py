"""How long a paper says that a method is trained, as a sweep file declares it, beside how long a run will be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postproc.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class PaperLength:
    """What a paper says of the length of a training.

    Attributes:
        source: Paper and section, with the words or the sum that give the figure.
        steps: Optimiser steps; None where the paper states epochs.
        epochs: Epochs; None where the paper states steps.
        differs: Why the runs of the sweep are trained otherwise; empty where they are trained as long.
    """

    source: str
    steps: int | None = None
    epochs: int | None = None
    differs: str = ""

    @classmethod
    def read(cls, content: object, place: str) -> PaperLength:
        """Check what a sweep file says.

        Args:
            content: Mapping with the attributes as keys.
            place: Name of the place for messages, for example ``paper.dist of segmentation.yaml``.

        Raises:
            ConfigError: If it is no such mapping, lacks its source, or states no length or two.
        """
        if not isinstance(content, Mapping):
            raise ConfigError(f"{place} is {content!r}, expected a mapping: {{epochs: 80, source: Naylor 2018, VI-D}}")
        known = {f.name for f in dataclasses.fields(cls)}
        for key in content:
            if key not in known:
                raise unknown_name(f"key of {place}", str(key), known)
        given: dict[str, Any] = dict(content)
        lengths = [given[key] for key in ("steps", "epochs") if given.get(key) is not None]
        if len(lengths) != 1 or not isinstance(lengths[0], int) or lengths[0] < 1:
            raise ConfigError(f"{place} must state either steps or epochs, a whole number above 0")
        for key in ("source", "differs"):
            if not isinstance(given.get(key, ""), str):
                raise ConfigError(f"{place}: {key} is {given[key]!r}, expected text")
        if not given.get("source"):
            raise ConfigError(f"{place} needs its source: paper and section")
        return cls(**given)

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
