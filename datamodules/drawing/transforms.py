"""Transformations of image and annotation that albumentations lacks: stains, mirrored points, deformation."""

from __future__ import annotations

import math
import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# otherwise the import queries a server for the newest version in every worker process
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
from albumentations.core.type_definitions import Targets

from datamodules.drawing.parts import BORDER, inside

Image = NDArray[np.uint8]
Field = NDArray[np.float32]


def _stains() -> NDArray[np.float64]:
    """Return the unit optical densities (R, G, B) of haematoxylin, eosin and the residual across both."""
    pair = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])  # Ruifrok and Johnston (2001)
    vectors = np.vstack([pair, np.cross(*pair)])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


_STAINS = _stains()
_UNMIX = np.linalg.inv(_STAINS)
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


class StainJitter(A.ImageOnlyTransform):  # type: ignore[misc]  # mypy does not follow albumentations
    """Perturb the stains: each concentration c of haematoxylin, eosin and residual becomes a * c + b.

    Colour deconvolution, an affine change of every channel, and the inverse (Naylor et al. 2018, section
    VI-B; vectors of Ruifrok and Johnston 2001). In optical density the three steps are one affine map of the
    colour, so a pixel costs one product with a 3 x 4 matrix.

    Args:
        scale: a is uniform in [1 - scale, 1 + scale]; the paper states no value.
        shift: b is uniform in [-shift, shift], in units of natural-logarithm optical density.
        p: Probability.
    """

    def __init__(self, scale: float = 0.2, shift: float = 0.05, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.scale = scale
        self.shift = shift

    def get_params(self) -> dict[str, Any]:
        """Draw a and b of the three channels."""
        return {
            "gain": 1 + self.random_generator.uniform(-self.scale, self.scale, 3),
            "offset": self.random_generator.uniform(-self.shift, self.shift, 3),
        }

    def apply(self, img: Image, gain: NDArray[np.float64], offset: NDArray[np.float64], **_: Any) -> Image:
        """Return the perturbed image, uint8 (H, W, 3)."""
        # with row vectors: density = c @ stains, hence new density = density @ (unmix @ diag(a) @ stains) +
        # b @ stains
        matrix = np.hstack([(_UNMIX @ (gain[:, None] * _STAINS)).T, (offset @ _STAINS)[:, None]])
        density = cv2.transform(cv2.LUT(img, _DENSITY), -matrix)
        return np.asarray(cv2.convertScaleAbs(cv2.exp(density), alpha=255), np.uint8)


class MirroringAffine(A.Affine):  # type: ignore[misc]  # mypy does not follow albumentations
    """`A.Affine` that mirrors points as `BORDER` mirrors pixels, and computes only the kept part.

    The points of `A.Affine` are off by one pixel from the mirrored pixels.

    Args:
        spare: Margin computed on each side of the kept centre, as a share of its side, for a following
            transformation. Without the key ``side`` in the data, the whole window is computed.
        ranges: As in `A.Affine`.
    """

    def __init__(self, *, spare: float = 0.0, **ranges: Any) -> None:
        super().__init__(
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            border_mode=BORDER,
            p=1.0,
            **ranges,
        )
        self.spare = spare

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the matrix; it maps onto the central ``side`` pixels of the window."""
        drawn: dict[str, Any] = super().get_params_dependent_on_data(params, data)
        if "side" in data:
            height, width = params["shape"][:2]
            side = data["side"] + 2 * math.ceil(self.spare * data["side"])
            side = min(side, height, width)
            shift = np.eye(3)
            shift[:2, 2] = -((width - side) // 2), -((height - side) // 2)
            drawn["matrix"], drawn["output_shape"] = shift @ drawn["matrix"], (side, side)
        return drawn

    def apply_to_keypoints(
        self, keypoints: NDArray[np.float32], matrix: NDArray[np.float64], *_: Any, **params: Any
    ) -> NDArray[np.float32]:
        """Return the moved points with their mirror images; one reflection at each edge suffices."""
        copies = mirrored(keypoints, params["shape"][:2])
        copies[:, :2] = copies[:, :2] @ matrix[:2, :2].T + matrix[:2, 2]
        return copies


class CoarseElastic(A.DualTransform):  # type: ignore[misc]  # mypy does not follow albumentations
    """Smooth random deformation, as in U-Net's training.

    Displacements are drawn from a normal distribution on a coarse grid and interpolated bicubically
    (Ronneberger et al. 2015, section 3.1: 3 x 3 grid, 10 px). DIST uses the same deformation (Naylor et al. 2018,
    section VI-B, reference 38).

    Args:
        grid: Displacement vectors along each side.
        deviation: Standard deviation of a displacement, in pixels; limited to a tenth of the grid's spacing,
            so that small crops do not fold.
        p: Probability.
    """

    _targets = (Targets.IMAGE, Targets.MASK, Targets.KEYPOINTS)

    def __init__(self, grid: int = 3, deviation: float = 10.0, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.grid = grid
        self.deviation = deviation

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the displacement of every pixel, float32 (H, W, 2) as (x, y) in pixels."""
        height, width = params["shape"][:2]
        deviation = min(self.deviation, 0.1 * min(height, width) / self.grid)
        coarse = self.random_generator.normal(0, deviation, (self.grid, self.grid, 2)).astype(np.float32)
        return {"displacement": cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)}

    def apply(self, img: Image, displacement: Field, **_: Any) -> Image:
        """Return the deformed image, interpolated bilinearly."""
        return _displace(img, displacement, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: NDArray[Any], *_: Any, **params: Any) -> NDArray[Any]:
        """Return the deformed map, by nearest neighbour."""
        return _displace(mask, params["displacement"], cv2.INTER_NEAREST)

    def apply_to_keypoints(self, keypoints: NDArray[np.float32], *_: Any, **params: Any) -> NDArray[np.float32]:
        """Return the moved points with their mirror images: a point q goes to the p with p + d(p) = q."""
        displacement = params["displacement"]
        height, width = displacement.shape[:2]
        # points that an earlier transformation moved out of view are lost; the mirrored image is shown there
        keypoints = keypoints[inside(keypoints[:, :2].astype(np.float32), (height, width))[1]]
        if not len(keypoints):
            return keypoints
        copies = mirrored(keypoints, (height, width))
        place = copies[:, :2].astype(np.float32)
        for _step in range(12):  # a contraction, since the displacement changes by less than one pixel per pixel
            at = np.ascontiguousarray(place[None])
            place = copies[:, :2] - cv2.remap(
                displacement, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ).reshape(-1, 2)
        copies[:, :2] = place
        return copies


def _displace(array: NDArray[Any], displacement: Field, interpolation: int) -> NDArray[Any]:
    height, width = displacement.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(
        cv2.remap(array, displacement[..., 0] + x, displacement[..., 1] + y, interpolation, borderMode=BORDER)
    )


def mirrored(keypoints: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the points and their mirror images about the four edges and corners."""
    copies = [keypoints]
    for axis, extent in ((0, shape[1]), (1, shape[0])):
        every = np.concatenate(copies)
        copies = [every]
        for total in (-1, 2 * extent - 1):  # the edges are half a pixel outside the outermost pixel centres
            copy = every.copy()
            copy[:, axis] = total - every[:, axis]
            copies.append(copy)
    return np.concatenate(copies)
