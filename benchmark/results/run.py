"""`Run`: everything about one training that does not change while it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.forward.maps import InferenceSettings
from benchmark.host.machine import Machine
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from datamodules.sources import Sources

if TYPE_CHECKING:
    from models.base.method import NucleiMethod
    from models.base.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """One run: what it is, where it is stored, what it trains, on which images, on which machine.

    Attributes:
        spec: What it is.
        store: Its directory.
        method: Its method; its weights are what a training changes.
        sources: The images that it learns from and is validated on.
        machine: Where things are, and how much of the machine it uses.
    """

    spec: RunSpec
    store: RunStore
    method: NucleiMethod
    sources: Sources
    machine: Machine

    @property
    def strict(self) -> bool:
        """Whether checkpoint and parameters are chosen on validation images."""
        return self.spec.protocol == "strict"

    @property
    def recipe(self) -> Recipe:
        """How the method is trained: its recipe, with what the run asks for in its place."""
        return self.spec.overrides.applied_to(self.method.recipe)

    @property
    def magnification(self) -> float | None:
        """Of the training images; None = unknown."""
        return self.sources.magnification

    @property
    def settings(self) -> InferenceSettings:
        """How images go through the network."""
        return InferenceSettings(precision=self.spec.precision, compile=self.machine.compile)


__all__ = ["Run"]
