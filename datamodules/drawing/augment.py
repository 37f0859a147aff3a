"""Augmentation of image and annotation together, with albumentations.

A policy has two parts: geometry, which transforms image, outlines, points and regions together (outlines and regions
by nearest neighbour), and appearance, which changes only the image. A policy is named after the authors who trained
with it; ``none``, ``flips`` and ``stain`` are generic. Transformations other than right angles use a larger window, so
that the corners of a rotated crop show the image; only beyond the window are image and annotation mirrored.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import albumentations as A
import numpy as np

from datamodules.drawing.parts import inside, split_parts
from datamodules.drawing.transforms import CoarseElastic, Image, MirroringAffine, StainJitter
from postproc.errors import unknown_name
from postproc.instances import Instances

TORN = 10
"""Minimum area, in px^2, of a part that counts as a nucleus after resampling, unless it is at the border."""


@dataclass(frozen=True)
class Policy:
    """Augmentation of training items; can be pickled for worker processes.

    Attributes:
        name: Key in `POLICIES`.
        summary: Description for recipes.
        geometry: Transforms image and annotation; None leaves them unchanged.
        appearance: Changes the image; None leaves it unchanged.
        reach: Side of the window that `geometry` needs, as a multiple of the crop's side; 1 if it only permutes
            pixels, so that no nucleus is cut, lost or mirrored into view.
    """

    name: str
    summary: str
    geometry: A.Compose | None = None
    appearance: A.Compose | None = None
    reach: float = 1.0

    @property
    def rigid(self) -> bool:
        """Whether `geometry` only permutes pixels."""
        return self.reach == 1

    def window(self, side: int) -> int:
        """Return the side of the window around a crop, in pixels; both share a centre in whole pixels."""
        return side + 2 * math.ceil((self.reach - 1) / 2 * side)


def augment(
    policy: Policy, image: Image, truth: Instances, rng: np.random.Generator, side: int | None = None
) -> tuple[Image, Instances]:
    """Augment an image and its annotation.

    Args:
        policy: From `build_policy`. Its random state is replaced in each call, so do not share a policy between
            threads.
        image: uint8 (H, W, 3).
        truth: Annotation at the same (H, W); not modified. Gaps in the ids are allowed.
        rng: The only source of randomness.
        side: Side in pixels of the centre to keep; at most H and W, and different from them by an even number. None
            keeps everything.

    Returns:
        The image and its annotation; ids are 1..N without gaps, types stay with their nuclei. Unless the
        policy is rigid, the parts of a nucleus that is mirrored or cut apart get their own ids. If there are outlines,
        `points` becomes None: the centre of a nucleus is that of the visible part.
    """
    if policy.geometry is not None:
        _seed(policy.geometry, rng)
        image, truth = _move(policy.geometry, policy.rigid, image, truth, side)
    if policy.appearance is not None:
        _seed(policy.appearance, rng)
        image = policy.appearance(image=image)["image"]
    return image, truth


def build_policy(name: str) -> Policy:
    """Build a policy by name.

    Raises:
        ConfigError: If `POLICIES` has no such name.
    """
    if name not in POLICIES:
        raise unknown_name("augmentation policy", name, POLICIES)
    return POLICIES[name]()


# ---- transforming the annotation ---------------------------------------------------------------------------


def _seed(pipeline: A.Compose, rng: np.random.Generator) -> None:
    # pass generators, since an integer seed would give every transform the same stream
    pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))  # noqa: S311  # no cryptography


def _move(
    geometry: A.Compose, rigid: bool, image: Image, truth: Instances, side: int | None
) -> tuple[Image, Instances]:
    data: dict[str, Any] = {"image": image}
    if side is not None:
        data["side"] = side
    if truth.labels is not None:
        # OpenCV does not support int32; float32 represents every id up to 2**24
        data["labels"] = truth.labels.astype(np.uint16 if truth.labels.max(initial=0) < 2**16 else np.float32)
    if truth.regions is not None:
        data["regions"] = truth.regions
    by_points = truth.labels is None and truth.points is not None
    data["keypoints"] = truth.points if by_points else np.zeros((0, 2), np.float32)
    data["rows"] = np.arange(len(data["keypoints"]))
    moved = geometry(**data)
    centre, shape = _centre(moved["image"].shape, side)
    image = np.ascontiguousarray(moved["image"][centre])
    regions = None if truth.regions is None else np.ascontiguousarray(moved["regions"][centre])
    if by_points:
        corner = np.array([centre[1].start, centre[0].start], np.float32)
        points, rows = inside(np.asarray(moved["keypoints"], np.float32).reshape(-1, 2) - corner, shape)
        rows = np.asarray(moved["rows"], np.int64)[rows]
        types = None if truth.types is None else truth.types[rows]
        return image, Instances(shape, points=points, types=types, regions=regions)
    if truth.labels is None:
        return image, Instances(shape, regions=regions)
    labels, types = np.ascontiguousarray(moved["labels"][centre].astype(np.int32)), truth.types
    if not rigid:
        labels, types = split_parts(labels, types, least=TORN)
    return image, Instances(shape, labels=labels, types=types, regions=regions)


def _centre(shape: tuple[int, ...], side: int | None) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """Return the position of the central square of side `side` in a window, and its (H, W)."""
    height, width = shape[:2] if side is None else (side, side)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return (slice(top, top + height), slice(left, left + width)), (height, width)


# ---- policies ----------------------------------------------------------------------------------------


def _geometry(*transforms: Any) -> A.Compose:
    return A.Compose(
        list(transforms),
        additional_targets={"labels": "mask", "regions": "mask"},
        keypoint_params=A.KeypointParams(format="xy", label_fields=["rows"], remove_invisible=False),
    )


def _turned(*, spare: float = 0.0, **ranges: Any) -> tuple[A.HorizontalFlip, MirroringAffine]:
    """Mirroring and rotation by any angle, with further `ranges`; includes every symmetry of the square."""
    return A.HorizontalFlip(p=0.5), MirroringAffine(rotate=(-180, 180), spare=spare, **ranges)


def _none() -> Policy:
    return Policy("none", "none")


def _flips() -> Policy:
    """Mirroring and right angles: the 8 symmetries of the square."""
    return Policy("flips", "mirroring and right angles", _geometry(A.D4(p=1.0)))


def _stain() -> Policy:
    """The symmetries of the square, and perturbed stains."""
    return Policy(
        "stain", "mirroring, right angles and perturbed stains", _geometry(A.D4(p=1.0)), A.Compose([StainJitter()])
    )


def _hovernet() -> Policy:
    """HoVer-Net and the methods compared with it (Graham et al. 2019, section V-B).

    Probabilities and ranges are those of the comparison's public code (in TensorFlow; the later PyTorch code always
    blurs or adds noise). As in that code, a patch of twice the size is transformed and its centre kept. The added
    brightness is a factor here.
    """
    blur = A.GaussianBlur(blur_limit=(3, 3), sigma_limit=(0.5, 1.0), p=1.0)
    noise = A.GaussNoise(std_range=(0.0, 0.05), per_channel=True, p=1.0)
    colour = A.ColorJitter(
        brightness=(0.9, 1.1), contrast=(0.75, 1.25), saturation=(0.8, 1.2), hue=(-8 / 180, 8 / 180), p=1.0
    )
    moves = _turned(scale=(0.8, 1.2), translate_percent=(-0.01, 0.01), shear=(-5, 5), keep_ratio=False)
    return Policy(
        "hovernet",
        "mirroring, rotation by any angle, scale 0.8 to 1.2, shear up to 5 degrees; blur, median or noise in "
        "half of the crops; hue, saturation, brightness and contrast",
        _geometry(*moves),
        A.Compose([A.OneOf([blur, A.MedianBlur(blur_limit=(3, 3), p=1.0), noise], p=0.5), colour]),
        reach=2.0,  # a corner is up to 0.97 sides from the centre
    )


ELASTIC_SPARE = 1 / 8
"""Margin that a deformation may bring into view on each side, as a share of the crop's side."""
ELASTIC_REACH = 1.8
"""Side of the window around a rotated and deformed crop: the diagonal of the crop with its margins."""


def _deformed() -> A.Compose:
    return _geometry(*_turned(spare=ELASTIC_SPARE), CoarseElastic(p=0.5))


def _defocus() -> A.GaussianBlur:
    """Blur that simulates focus; neither paper of Naylor et al. states its strength."""
    return A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 2.0), p=0.5)


def _dist() -> Policy:
    """DIST and the methods compared with it (Naylor et al. 2018, section VI-B)."""
    return Policy(
        "dist",
        "mirroring, rotation by any angle, elastic deformation of half of the crops; blur of half of the crops, "
        "perturbed stains",
        _deformed(),
        A.Compose([_defocus(), StainJitter()]),
        reach=ELASTIC_REACH,
    )


def _naylor_2017() -> Policy:
    """PangNet, DeconvNet and their ensemble (Naylor et al. 2017, section 4); the paper states no ranges."""
    return Policy(
        "naylor-2017",
        "mirroring, rotation by any angle, elastic deformation of half of the crops; blur of half of the crops",
        _deformed(),
        A.Compose([_defocus()]),
        reach=ELASTIC_REACH,
    )


def _kinet() -> Policy:
    """KiNet and the methods compared with it (Xing et al. 2019, section IV-B); the paper states no ranges."""
    reach = 1.7
    shift = 0.1 / reach  # share of the window: a tenth of the crop
    return Policy(
        "kinet",
        "mirroring, rotation by any angle, shifts up to a tenth of the crop",
        _geometry(*_turned(translate_percent=(-shift, shift))),
        reach=reach,
    )


def _stardist() -> Policy:
    """StarDist's public example: symmetries of the square, intensity times a + b, noise up to 0.02.

    There, a is 0.6 to 2 on images whose 99.8th percentile is 1 and whose values may exceed 1. 8-bit values may not, so
    the range of a ends at 1.2 here.
    """
    intensity = A.RandomBrightnessContrast(
        brightness_limit=(-0.2, 0.2), contrast_limit=(-0.4, 0.2), brightness_by_max=True, p=1.0
    )
    noise = A.GaussNoise(std_range=(0.0, 0.02), per_channel=True, p=1.0)
    return Policy(
        "stardist",
        "mirroring and right angles; intensity times 0.6 to 1.2, plus up to 0.2 of the range; noise",
        _geometry(A.D4(p=1.0)),
        A.Compose([intensity, noise]),
    )


def _hover_lite() -> Policy:
    """HoVer-Lite: wider ranges of scale and stain than HoVer-Net's training, and occasional blur or noise."""
    colour = A.ColorJitter(
        brightness=(0.9, 1.1), contrast=(0.85, 1.15), saturation=(0.8, 1.2), hue=(-8 / 180, 8 / 180), p=0.8
    )
    blur = A.GaussianBlur(blur_limit=0, sigma_limit=(0.4, 1.2), p=1.0)
    noise = A.GaussNoise(std_range=(0.01, 0.04), per_channel=True, p=1.0)
    return Policy(
        "hover-lite",
        "mirroring, rotation by any angle, scale 0.75 to 1.35; perturbed stains; hue, saturation, brightness and "
        "contrast; blur or noise in 30 % of the crops",
        _geometry(*_turned(scale=(0.75, 1.35), keep_ratio=True)),
        A.Compose([StainJitter(scale=0.25, shift=0.06), colour, A.OneOf([blur, noise], p=0.3)]),
        reach=1.9,  # the diagonal of the crop at the smallest scale
    )


POLICIES: dict[str, Callable[[], Policy]] = {
    "none": _none,
    "flips": _flips,
    "stain": _stain,
    "hovernet": _hovernet,
    "dist": _dist,
    "naylor-2017": _naylor_2017,
    "kinet": _kinet,
    "stardist": _stardist,
    "hover-lite": _hover_lite,
}
"""Policy name -> builder."""
