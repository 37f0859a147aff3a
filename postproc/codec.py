"""`Codec`: nuclei to training targets, and network output back to nuclei."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from postproc.errors import ConfigError
from postproc.instances import Instances

if TYPE_CHECKING:
    from postproc.symmetry import Symmetry

Array = NDArray[Any]
Targets = dict[str, Array]
"""Training targets of one crop: name -> array. Dense targets are (H, W) or (C, H, W) at the crop's size;
targets of detectors may have one row per nucleus."""
Maps = dict[str, Array]
"""Network output for one image: name -> array. Dense maps are float (C, H, W) at the image's size; detectors
return one row per nucleus, in the image's coordinates."""
Survey = dict[str, tuple[float, float]]
"""Statistics of the whole image that decoding a region needs: name -> lowest and highest value."""


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
    """Converts between nuclei and network maps: `encode` for training, and its inverse `decode` for inference.

    A codec is a small immutable object that can be pickled into worker processes; it does not import torch.

    Images that are too large for one `decode` are decoded region by region if the codec supports it: `support` marks
    the pixels that influence each other, `surroundings` is the margin around them that decoding reads, and `survey`
    collects statistics of the whole image. The result equals that of `decode` (see `postproc.pixels.clusters`).

    Attributes:
        params_type: The dataclass of post-processing parameters that `decode` takes.
        surroundings: Margin in pixels around a connected part of the `support` that its decoding reads; None = the
            codec decodes whole images only.
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
        """Return all detections of an image, weak ones included, with scores; None if no threshold acts on the scores.

        They yield precision and recall at every threshold, whereas `decode` applies a single one.
        """
        return None

    @abstractmethod
    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the maps of a network that predicts `targets` without error; `decode` inverts them."""

    def support(self, maps: Mapping[str, Array], params: P) -> NDArray[np.bool_]:
        """Mark the pixels that may belong to nuclei or influence them, bool (H, W).

        The 8-connected parts of the support, each including what it encloses, must be independent of each other: any
        region that contains such a part and `surroundings` px around it yields the same nuclei for it in
        `decode_region`, and no nucleus has pixels outside the part.

        Raises:
            ConfigError: If the codec decodes whole images only.
        """
        raise ConfigError(f"{type(self).__name__} decodes whole images only; cut the image into smaller ones")

    def survey(self, maps: Mapping[str, Array], core: tuple[slice, slice], params: P) -> Survey:
        """Return a region's contribution to the statistics of the whole image that decoding needs.

        Args:
            maps: Maps of a region.
            core: The region without its `surroundings`, which exist on every side that is not a border of the image.
                The cores tile the image.
            params: Post-processing parameters.
        """
        return {}

    def decode_region(self, maps: Mapping[str, Array], params: P, survey: Survey) -> Instances:
        """Return the nuclei of a region; away from its border they equal those of `decode` on the whole image.

        Args:
            maps: Maps of the region, which starts at multiples of 64 px so that ties in raster order are resolved as in
                the whole image.
            params: Post-processing parameters.
            survey: Survey of the whole image.
        """
        return self.decode(maps, params)

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return the probability that a pixel is part of a nucleus, float (H, W); None if the maps do not have it."""
        return None

    def rate(self, found: Instances, maps: Mapping[str, Array]) -> Instances:
        """Return nuclei with scores: those of decoding, otherwise the mean probability `nuclear` of their pixels.

        Args:
            found: Nuclei decoded from `maps`.
            maps: Maps of the image or region.

        Returns:
            The nuclei; without scores if the maps have no probability, or the nuclei no pixels.
        """
        probability = None if found.scores is not None or found.labels is None else self.nuclear(maps)
        if probability is None or found.labels is None:
            return found
        inside = found.labels > 0
        labels = found.labels[inside]
        sums = np.bincount(labels, np.asarray(probability)[inside], minlength=found.count + 1)[1:]
        means = sums / np.bincount(labels, minlength=found.count + 1)[1:]
        return dataclasses.replace(found, scores=np.clip(means, 0, 1).astype(np.float32))

    def check_symmetries(self) -> None:
        """Check that maps of mirrored and rotated images can be averaged.

        Raises:
            ConfigError: If they cannot.
        """

    def undo(self, maps: Mapping[str, Array], symmetry: Symmetry) -> Maps:
        """Return the maps of an image from those of the mirrored and rotated image.

        Codecs whose maps have directions turn these too.
        """
        return {name: symmetry.undo(value) for name, value in maps.items()}

    def defaults(self) -> P:
        """Return the paper's parameters."""
        return self.params_type()  # type: ignore[return-value]  # params_type is the class bound to P


def one_hot(classes: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    """One-hot encode a map of class indices (H, W) as float32 (count, H, W)."""
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
