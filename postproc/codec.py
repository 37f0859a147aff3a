"""`Codec`: nuclei to training targets, and network output back to nuclei."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from postproc.instances import Instances

Array = NDArray[Any]
Targets = dict[str, Array]
"""What a network learns from one crop: name -> array. Dense targets are (H, W) or (C, H, W) at the crop's size;
targets of detectors may have one row per nucleus."""
Maps = dict[str, Array]
"""What a network says about one image: name -> array. Dense maps are float (C, H, W) at the image's size; detectors
return one row per nucleus, in the image's coordinates."""


@dataclasses.dataclass(frozen=True)
class Params:
    """Base of the post-processing parameters of a codec: frozen fields, each with the paper's default."""


P = TypeVar("P", bound=Params)


def tunable(default: float, choices: tuple[float, ...]) -> Any:
    """Declare a parameter that is tuned on validation images.

    Args:
        default: The paper's value, used by protocol ``paper``.
        choices: The values tried by protocol ``strict``; the default should be among them.
    """
    return dataclasses.field(default=default, metadata={"choices": choices})


def search_space(params: type[Params]) -> dict[str, tuple[float, ...]]:
    """Return the values to try for each tunable field, in the order of declaration."""
    return {f.name: f.metadata["choices"] for f in dataclasses.fields(params) if "choices" in f.metadata}


class Codec(ABC, Generic[P]):
    """Two directions that must agree: `encode` for training and `decode` for inference.

    A codec is a small immutable object that can be pickled into worker processes; it never imports torch.

    Attributes:
        params_type: The dataclass of post-processing parameters that `decode` takes.
    """

    params_type: ClassVar[type[Params]] = Params

    @abstractmethod
    def encode(self, truth: Instances) -> Targets:
        """Return the training targets of one (augmented) crop; never modifies `truth`."""

    @abstractmethod
    def decode(self, maps: Mapping[str, Array], params: P) -> Instances:
        """Return the nuclei of one image from the maps of its network (after `NucleiMethod.activate`)."""

    @abstractmethod
    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the maps of a network that learnt `targets` without error; `decode` of them is the round trip."""

    def defaults(self) -> P:
        """Return the paper's parameters."""
        return self.params_type()  # type: ignore[return-value]  # params_type is the class bound to P


def one_hot(classes: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    """Turn a map of class indices (H, W) into float32 (count, H, W) with a 1 in the channel of each pixel's class."""
    hot: NDArray[np.float32] = (np.arange(count)[:, None, None] == classes[None]).astype(np.float32)
    return hot
