"""Adds types to any segmentation codec."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, P, Survey, Targets, one_hot
from postproc.codecs.types import majority_of_probabilities, type_map
from postproc.errors import ConfigError
from postproc.instances import Instances
from postproc.symmetry import Symmetry


class TypedCodec(Codec[P]):
    """Adds a type map to a segmentation codec; each nucleus gets the majority type of its pixels.

    This is how HoVer-Net classifies its nuclei (Graham et al. 2019, section III-C) and how its comparison classified
    those of DIST (section V-E).

    Targets and maps are those of the wrapped codec and ``tp``: as target int64 (H, W), 0 = background, 1..T; as map
    float (T + 1, H, W), probabilities. Parameters are the wrapped codec's.

    Args:
        outlines: The codec that segments the nuclei, without types.
        types: Number of nucleus types T.

    Raises:
        ConfigError: If `types` is less than 1.
    """

    def __init__(self, outlines: Codec[P], types: int) -> None:
        if types < 1:
            raise ConfigError(f"types is {types}, expected 1 or more; without types use the codec as it is")
        self.outlines = outlines
        self.types = types
        # class attributes in other codecs; here those of the wrapped codec
        self.params_type = outlines.params_type  # type: ignore[misc]
        self.surroundings = outlines.surroundings  # type: ignore[misc]

    def defaults(self) -> P:
        """Return the wrapped codec's default parameters."""
        return self.outlines.defaults()

    def encode(self, truth: Instances) -> Targets:
        """Return the wrapped codec's targets and ``tp``.

        Raises:
            DataError: If the annotation lacks outlines or types.
        """
        return {**self.outlines.encode(truth), "tp": type_map(truth, self.types)}

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return that of the wrapped codec."""
        return self.outlines.nuclear(maps)

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the wrapped codec's maps and the types as the probabilities 0 and 1."""
        return {**self.outlines.perfect(targets), "tp": one_hot(targets["tp"], self.types + 1)}

    def decode(self, maps: Mapping[str, Array], params: P) -> Instances:
        """Return the wrapped codec's nuclei, each with its type; 0 where all of its pixels are background in ``tp``."""
        return self._with_types(self.outlines.decode(maps, params), maps)

    def support(self, maps: Mapping[str, Array], params: P) -> NDArray[np.bool_]:
        """Mark the pixels that the wrapped codec marks: types do not affect outlines."""
        return self.outlines.support(maps, params)

    def survey(self, maps: Mapping[str, Array], core: tuple[slice, slice], params: P) -> Survey:
        """Return the wrapped codec's survey."""
        return self.outlines.survey(maps, core, params)

    def decode_region(self, maps: Mapping[str, Array], params: P, survey: Survey) -> Instances:
        """Return the nuclei of a region, as `decode`."""
        return self._with_types(self.outlines.decode_region(maps, params, survey), maps)

    def check_symmetries(self) -> None:
        """Check the wrapped codec."""
        self.outlines.check_symmetries()

    def undo(self, maps: Mapping[str, Array], symmetry: Symmetry) -> Maps:
        """Return the maps of an image from those of the mirrored and rotated image."""
        return self.outlines.undo(maps, symmetry)

    def _with_types(self, found: Instances, maps: Mapping[str, Array]) -> Instances:
        assert found.labels is not None
        return dataclasses.replace(found, types=majority_of_probabilities(found.labels, maps["tp"]))


__all__ = ["TypedCodec"]
