"""`Codec`: nuclei to training targets, and network output back to nuclei."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from postproc.errors import ConfigError
from postproc.instances import Instances

Array = NDArray[Any]
Targets = dict[str, Array]
"""What a network learns from one crop: name -> array. Dense targets are (H, W) or (C, H, W) at the crop's size;
targets of detectors may have one row per nucleus."""
Maps = dict[str, Array]
"""What a network says about one image: name -> array. Dense maps are float (C, H, W) at the image's size; detectors
return one row per nucleus, in the image's coordinates."""
Survey = dict[str, tuple[float, float]]
"""What a decoding must know of the whole image before it can decode a part: name -> lowest and highest value."""


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

    Images that are too large to be decoded at once are decoded by region, where the codec says how: `support` marks
    the px that decide about each other, `surroundings` how far around them the maps are looked at, and `survey`
    collects what depends on the whole image. The result is that of `decode` (see `postproc.pixels.clusters`).

    Attributes:
        params_type: The dataclass of post-processing parameters that `decode` takes.
        surroundings: Px around a connected part of the `support` that its decoding looks at; None = the codec decodes
            whole images only.
    """

    params_type: ClassVar[type[Params]] = Params
    surroundings: ClassVar[int | None] = None

    @abstractmethod
    def encode(self, truth: Instances) -> Targets:
        """Return the training targets of one (augmented) crop; never modifies `truth`."""

    @abstractmethod
    def decode(self, maps: Mapping[str, Array], params: P) -> Instances:
        """Return the nuclei of one image from the maps of its network (after `NucleiMethod.activate`)."""

    def candidates(self, maps: Mapping[str, Array], params: P) -> Instances | None:
        """Return every detection of an image with its score, the weak ones too; None where no score is a threshold.

        From these follow precision and recall at every threshold; `decode` gives those of one.
        """
        return None

    @abstractmethod
    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the maps of a network that learnt `targets` without error; `decode` of them is the round trip."""

    def support(self, maps: Mapping[str, Array], params: P) -> NDArray[np.bool_]:
        """Mark the px that may belong to nuclei or decide about them, bool (H, W).

        The 8-connected parts of the support, each with what it encloses, must be decoded independently of each other:
        `decode_region` of any region that holds such a part and `surroundings` px around it gives it the same nuclei,
        and no nucleus has px outside.

        Raises:
            ConfigError: If the codec decodes whole images only.
        """
        raise ConfigError(f"{type(self).__name__} decodes whole images only; cut the image into smaller ones")

    def survey(self, maps: Mapping[str, Array], core: tuple[slice, slice], params: P) -> Survey:
        """Return what decoding must know of the whole image, as far as a region shows it.

        Args:
            maps: Of a region.
            core: Its part without the `surroundings`, which it has where the image goes on; the cores tile the image.
            params: Post-processing parameters.
        """
        return {}

    def decode_region(self, maps: Mapping[str, Array], params: P, survey: Survey) -> Instances:
        """Return the nuclei of a region as `decode` of the whole image would, away from the region's border.

        Args:
            maps: Of the region; it begins at multiples of 64 px, so that ties in raster order fall as in the image.
            params: Post-processing parameters.
            survey: Of the whole image.
        """
        return self.decode(maps, params)

    def defaults(self) -> P:
        """Return the paper's parameters."""
        return self.params_type()  # type: ignore[return-value]  # params_type is the class bound to P


def one_hot(classes: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    """Turn a map of class indices (H, W) into float32 (count, H, W) with a 1 in the channel of each pixel's class."""
    hot: NDArray[np.float32] = (np.arange(count)[:, None, None] == classes[None]).astype(np.float32)
    return hot


def merge_surveys(surveys: Iterable[Survey]) -> Survey:
    """Return the lowest and the highest value of each name over all regions."""
    merged: Survey = {}
    for survey in surveys:
        for name, (low, high) in survey.items():
            lowest, highest = merged.get(name, (low, high))
            merged[name] = (min(low, lowest), max(high, highest))
    return merged
