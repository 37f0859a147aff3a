"""`Run`: everything about a training that stays fixed while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.forward.maps import InferenceSettings
from benchmark.host.machine import Machine
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from datamodules.sources import Sources

if TYPE_CHECKING:
    from benchmark.results.parent import Start
    from models.base.method import NucleiMethod
    from models.base.recipe import Recipe


def inference_settings(spec: RunSpec, machine: Machine | None = None) -> InferenceSettings:
    """Return the settings of inference of a run, without compilation if no machine is given."""
    compiled = machine is not None and machine.compile
    return InferenceSettings(precision=spec.precision, compile=compiled, tta=spec.overrides.tta)


@dataclass(frozen=True)
class Ready:
    """A method with its weights, and the store of its predictions; `Run` without the training images.

    Attributes:
        spec: The run that the weights are from.
        store: Run directory.
        method: Method with weights.
        machine: Folders and hardware settings.
        magnification: Magnification of the training images; None = unknown.
    """

    spec: RunSpec
    store: RunStore
    method: NucleiMethod
    machine: Machine
    magnification: float | None

    @property
    def settings(self) -> InferenceSettings:
        """Settings of inference."""
        return inference_settings(self.spec, self.machine)


@dataclass(frozen=True)
class Run:
    """A run: its spec, directory, method, images and machine.

    Attributes:
        spec: Method, data, protocol, seed and settings.
        store: Run directory.
        method: Method; training changes its weights.
        sources: Training and validation images.
        machine: Folders and hardware settings.
        start: How the method received the weights of another model; None = it did not, or has been trained since.
    """

    spec: RunSpec
    store: RunStore
    method: NucleiMethod
    sources: Sources
    machine: Machine
    start: Start | None = None

    @property
    def strict(self) -> bool:
        """Whether validation images choose the checkpoint and the parameters."""
        return self.spec.protocol == "strict"

    @property
    def recipe(self) -> Recipe:
        """Recipe of the method with the overrides of the run."""
        return self.spec.overrides.applied_to(self.method.recipe)

    @property
    def magnification(self) -> float | None:
        """Magnification of the training images; None = unknown."""
        return self.sources.magnification

    @property
    def settings(self) -> InferenceSettings:
        """Settings of inference."""
        return inference_settings(self.spec, self.machine)


__all__ = ["Ready", "Run", "inference_settings"]
