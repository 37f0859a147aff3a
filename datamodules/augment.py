"""Augmentation of image and annotation together, with albumentations.

A policy has two parts: geometry, which moves image, outlines, points and regions alike (outlines and regions
by nearest neighbour), and appearance, which changes the image alone. Where a movement uncovers the border,
image and annotation are mirrored about the edge in the same way.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.components import connected_components
from postproc.errors import unknown_name
from postproc.instances import Instances, LabelMap

# otherwise the import asks a server for the newest version, in every worker process
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
from albumentations.core.type_definitions import Targets

Image = NDArray[np.uint8]
Field = NDArray[np.float32]

BORDER = cv2.BORDER_REFLECT
"""Repeats the edge pixel, as `np.pad(mode="symmetric")` does."""

TORN = 10
"""Least area in px^2 of a part that counts as a nucleus after resampling, unless it lies at the border."""


@dataclass(frozen=True)
class Policy:
    """How training items are augmented; can be pickled into worker processes.

    Attributes:
        name: Key in `POLICIES`.
        geometry: Moves image and annotation; None leaves them in place.
        appearance: Changes the image; None leaves it.
        rigid: True where `geometry` only permutes pixels, so that no nucleus is cut, lost or mirrored into
            view.
    """

    name: str
    geometry: A.Compose | None = None
    appearance: A.Compose | None = None
    rigid: bool = True


def augment(policy: Policy, image: Image, truth: Instances, rng: np.random.Generator) -> tuple[Image, Instances]:
    """Augment an image and its annotation.

    Args:
        policy: From `build_policy`. Its random state is replaced in each call, so one policy is not for two
            threads.
        image: uint8 (H, W, 3).
        truth: Annotation at the same (H, W); left unchanged.
        rng: The only source of randomness.

    Returns:
        The image and its annotation; ids are 1..N without gaps, types stay with their nuclei. Unless the
        policy is rigid, the parts of a nucleus that is mirrored or cut apart have ids of their own. Where
        there are outlines, `points` becomes None: the centre of a nucleus is that of the part in view.
    """
    if policy.geometry is not None:
        _seed(policy.geometry, rng)
        image, truth = _move(policy.geometry, policy.rigid, image, truth)
    if policy.appearance is not None:
        _seed(policy.appearance, rng)
        image = policy.appearance(image=image)["image"]
    return image, truth


def build_policy(name: str) -> Policy:
    """Make a policy by its name.

    Raises:
        ConfigError: If `POLICIES` has no such name.
    """
    if name not in POLICIES:
        raise unknown_name("augmentation policy", name, POLICIES)
    return POLICIES[name]()


# ---- moving the annotation ---------------------------------------------------------------------------


def _seed(pipeline: A.Compose, rng: np.random.Generator) -> None:
    # generators are handed over, since seeding by number would give every transform the same stream
    pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))  # noqa: S311  # no cryptography


def _move(geometry: A.Compose, rigid: bool, image: Image, truth: Instances) -> tuple[Image, Instances]:
    data: dict[str, Any] = {"image": image}
    if truth.labels is not None:
        # OpenCV moves no int32; float32 holds every id up to 2**24
        data["labels"] = truth.labels.astype(np.uint16 if truth.count < 2**16 else np.float32)
    if truth.regions is not None:
        data["regions"] = truth.regions
    by_points = truth.labels is None and truth.points is not None
    data["keypoints"] = truth.points if by_points else np.zeros((0, 2), np.float32)
    data["rows"] = np.arange(len(data["keypoints"]))
    moved = geometry(**data)
    shape = (int(moved["image"].shape[0]), int(moved["image"].shape[1]))
    regions = None if truth.regions is None else np.ascontiguousarray(moved["regions"])
    image = np.ascontiguousarray(moved["image"])
    if by_points:
        points, rows = inside(np.asarray(moved["keypoints"], np.float32).reshape(-1, 2), shape)
        rows = np.asarray(moved["rows"], np.int64)[rows]
        types = None if truth.types is None else truth.types[rows]
        return image, Instances(shape, points=points, types=types, regions=regions)
    if truth.labels is None:
        return image, Instances(shape, regions=regions)
    labels, types = np.ascontiguousarray(moved["labels"].astype(np.int32)), truth.types
    if not rigid:
        labels, types = split_parts(labels, types, least=TORN)
    return image, Instances(shape, labels=labels, types=types, regions=regions)


def inside(points: NDArray[np.float32], shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Select the points whose nearest pixel lies in the image.

    Args:
        points: float32 (N, 2) as (x, y) px.
        shape: (H, W) of the image.

    Returns:
        Those points, moved onto the outermost pixel centres where they lie up to half a pixel beyond, and
        their rows.
    """
    extent = np.array(shape[::-1], np.float32)
    rows = np.flatnonzero(((points >= -0.5) & (points < extent - 0.5)).all(axis=1))
    return np.clip(points[rows], 0, extent - 1).astype(np.float32), rows


def split_parts(
    labels: LabelMap, types: NDArray[np.int64] | None, least: int = 1
) -> tuple[LabelMap, NDArray[np.int64] | None]:
    """Give each 8-connected part of each nucleus an id of its own.

    A mirrored copy of a nucleus is another nucleus to whoever looks at the image; HoVer-Net's training
    numbers such copies anew as well.

    Args:
        labels: int32 (H, W), gaps in the ids allowed.
        types: Row k belongs to id k + 1, or None.
        least: Smaller parts in px become background, except the largest part of each nucleus and parts at the
            border of the map: resampling by nearest neighbour tears off tips that are a px wide.

    Returns:
        The map with ids 1..N, in the order of the former ids, and their types.
    """
    parts, count = connected_components(labels, 8)
    owner = np.zeros(count + 1, np.int64)
    owner[parts.ravel()] = labels.ravel()
    area = np.bincount(parts.ravel(), minlength=count + 1)
    order = np.lexsort((area, owner))  # the last part of each owner is its largest
    keep = area >= least
    keep[order[np.append(np.diff(owner[order]) > 0, True)]] = True
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        keep[edge] = True
    keep[0] = False
    kept = order[keep[order]]
    number = np.zeros(count + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1, dtype=np.int32)
    return number[parts], None if types is None else np.asarray(types)[owner[kept] - 1]


# ---- transformations of our own ----------------------------------------------------------------------


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
        scale: a is uniform in [1 - scale, 1 + scale]; the paper gives no figure.
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
    """`A.Affine` whose mirrored points lie where `BORDER` mirrors the pixels (its own lie one px beside)."""

    def apply_to_keypoints(
        self, keypoints: NDArray[np.float32], matrix: NDArray[np.float64], *_: Any, **params: Any
    ) -> NDArray[np.float32]:
        """Return the moved points with their mirror images: one at each edge reaches far enough."""
        copies = _mirrored(keypoints, params["shape"][:2])
        copies[:, :2] = copies[:, :2] @ matrix[:2, :2].T + matrix[:2, 2]
        return copies


class CoarseElastic(A.DualTransform):  # type: ignore[misc]  # mypy does not follow albumentations
    """Smooth random deformation, as in U-Net's training.

    Displacements are drawn from a normal distribution on a coarse grid and interpolated bicubically
    (Ronneberger et al. 2015, section 3.1: 3 x 3 grid, 10 px), which DIST follows (Naylor et al. 2018,
    section VI-B, reference 38).

    Args:
        grid: Displacement vectors along each side.
        deviation: Standard deviation of a displacement in px; at most a tenth of the grid's spacing is used,
            so that small crops do not fold.
        p: Probability.
    """

    _targets = (Targets.IMAGE, Targets.MASK, Targets.KEYPOINTS)

    def __init__(self, grid: int = 3, deviation: float = 10.0, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.grid = grid
        self.deviation = deviation

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the displacement of every pixel, float32 (H, W, 2) as (x, y) px."""
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
        # what an earlier transformation moved out of view is lost; its place shows the mirrored image
        keypoints = keypoints[inside(keypoints[:, :2].astype(np.float32), (height, width))[1]]
        if not len(keypoints):
            return keypoints
        copies = _mirrored(keypoints, (height, width))
        place = copies[:, :2].astype(np.float32)
        for _step in range(12):  # a contraction, since the displacement changes by less than a px per px
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


def _mirrored(keypoints: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the points and their mirror images about the four edges and corners."""
    copies = [keypoints]
    for axis, extent in ((0, shape[1]), (1, shape[0])):
        every = np.concatenate(copies)
        copies = [every]
        for total in (-1, 2 * extent - 1):  # the edges lie half a px outside the outermost pixel centres
            copy = every.copy()
            copy[:, axis] = total - every[:, axis]
            copies.append(copy)
    return np.concatenate(copies)


# ---- policies ----------------------------------------------------------------------------------------


def _geometry(*transforms: Any) -> A.Compose:
    return A.Compose(
        list(transforms),
        additional_targets={"labels": "mask", "regions": "mask"},
        keypoint_params=A.KeypointParams(format="xy", label_fields=["rows"], remove_invisible=False),
    )


def _affine(**ranges: Any) -> MirroringAffine:
    return MirroringAffine(
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=BORDER,
        p=1.0,
        **ranges,
    )


def _none() -> Policy:
    return Policy("none")


def _flips() -> Policy:
    """Mirroring and right angles: the 8 symmetries of the square."""
    return Policy("flips", _geometry(A.D4(p=1.0)))


def _stain() -> Policy:
    """The symmetries of the square, and perturbed stains."""
    return Policy("stain", _geometry(A.D4(p=1.0)), A.Compose([StainJitter()]))


def _hovernet() -> Policy:
    """HoVer-Net's training (Graham et al. 2019, section IV-C, with the ranges of its public code).

    Its rotation by any angle is a symmetry of the square and up to 45 degrees; its added brightness is a
    factor here.
    """
    blur = A.GaussianBlur(blur_limit=(3, 3), sigma_limit=(0.5, 1.0), p=1.0)
    noise = A.GaussNoise(std_range=(0.0, 0.05), per_channel=True, p=1.0)
    colour = A.ColorJitter(
        brightness=(0.9, 1.1), contrast=(0.75, 1.25), saturation=(0.8, 1.2), hue=(-8 / 180, 8 / 180), p=1.0
    )
    affine = _affine(
        scale=(0.8, 1.2), translate_percent=(-0.01, 0.01), rotate=(-45, 45), shear=(-5, 5), keep_ratio=False
    )
    return Policy(
        "hovernet",
        _geometry(A.D4(p=1.0), affine),
        A.Compose([A.OneOf([blur, A.MedianBlur(blur_limit=(3, 3), p=1.0), noise], p=1.0), colour]),
        rigid=False,
    )


def _paper() -> Policy:
    """DIST (Naylor et al. 2018, section VI-B): rotation, mirroring, blur, deformation, perturbed stains."""
    blur = A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 2.0), p=0.5)
    geometry = _geometry(A.D4(p=1.0), _affine(rotate=(-45, 45)), CoarseElastic(p=0.5))
    return Policy("paper", geometry, A.Compose([blur, StainJitter()]), rigid=False)


def _kinet() -> Policy:
    """KiNet (Xing et al. 2019, section III): rotation, shifting, mirroring; the paper gives no ranges."""
    affine = _affine(rotate=(-45, 45), translate_percent=(-0.1, 0.1))
    return Policy("kinet", _geometry(A.D4(p=1.0), affine), rigid=False)


def _hover_lite() -> Policy:
    """Training of HoVer-Lite: any rotation, scale, stains and light, and now and then blur or noise."""
    affine = _affine(scale=(0.75, 1.35), rotate=(-45, 45), keep_ratio=True)
    colour = A.ColorJitter(
        brightness=(0.9, 1.1), contrast=(0.85, 1.15), saturation=(0.8, 1.2), hue=(-8 / 180, 8 / 180), p=0.8
    )
    blur = A.GaussianBlur(blur_limit=0, sigma_limit=(0.4, 1.2), p=1.0)
    noise = A.GaussNoise(std_range=(0.01, 0.04), per_channel=True, p=1.0)
    appearance = A.Compose([StainJitter(scale=0.25, shift=0.06), colour, A.OneOf([blur, noise], p=0.3)])
    return Policy("hover-lite", _geometry(A.D4(p=1.0), affine), appearance, rigid=False)


POLICIES: dict[str, Callable[[], Policy]] = {
    "none": _none,
    "flips": _flips,
    "stain": _stain,
    "hovernet": _hovernet,
    "paper": _paper,
    "kinet": _kinet,
    "hover-lite": _hover_lite,
}
"""Policy name -> builder."""
