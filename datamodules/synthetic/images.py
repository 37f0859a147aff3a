"""Synthetic histology: images with a known outline, type and region for every nucleus.

An image is composed in optical density. Stain concentrations are laid out first (tissue, then nuclei). The Beer-Lambert
law converts them into light, I = I0 * 10^-(C V), with stain vectors V that vary between images around those of
Ruifrok and Johnston (2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.synthetic.tissue import Field, Tissue, lay_out, noise
from postproc.errors import unknown_name
from postproc.instances import Instances
from postproc.pixels.components import connected_components
from postproc.pixels.labels import LabelMap, relabel

MIN_AREA = 24
"""Minimum area of a nucleus at 40x, in px^2; smaller remnants at the border or behind others are dropped."""


@dataclass(frozen=True)
class Kind:
    """Appearance of the nuclei of one type; lengths in pixels at 40x.

    Attributes:
        minor: Mean and standard deviation of the short half axis.
        aspect: Range of long over short half axis.
        irregularity: Amplitude of the outline's Fourier terms, relative to its radius.
        density: Range of the mean optical density of the nuclear stain.
        chromatin: Contrast of the chromatin texture, relative to `density`.
        rim: Contrast of the nuclear membrane, relative to `density`.
        nucleoli: Maximum number of nucleoli in a nucleus.
        cohesion: Probability of touching an earlier nucleus of the same type.
        brown: True if DAB instead of haematoxylin stains the nucleus.
    """

    minor: tuple[float, float]
    aspect: tuple[float, float]
    irregularity: float
    density: tuple[float, float]
    chromatin: float
    rim: float
    nucleoli: int
    cohesion: float
    brown: bool = False


_MISC = Kind((7.5, 1.8), (1.0, 1.9), 0.16, (1.0, 1.5), 0.35, 0.0, 0, 0.1)
_INFLAMMATORY = Kind((6.8, 0.8), (1.0, 1.3), 0.04, (0.8, 1.4), 0.32, 0.20, 0, 0.45)
_EPITHELIAL = Kind((9.0, 1.4), (1.15, 1.85), 0.05, (0.3, 0.75), 0.38, 0.8, 2, 0.6)
_SPINDLE = Kind((4.0, 0.8), (2.2, 4.5), 0.06, (0.55, 1.15), 0.28, 0.25, 0, 0.15)
_OTHER = Kind((4.4, 0.9), (1.3, 3.8), 0.06, (0.45, 0.75), 0.28, 0.25, 0, 0.2)
_POSITIVE = Kind((8.2, 1.0), (1.0, 1.45), 0.04, (0.7, 1.7), 0.22, 0.25, 1, 0.4, brown=True)
_NEGATIVE = Kind((8.2, 1.0), (1.0, 1.45), 0.04, (0.28, 0.5), 0.35, 0.55, 1, 0.5)

KINDS: dict[str, tuple[Kind, ...]] = {
    "he": (_MISC, _INFLAMMATORY, _EPITHELIAL, _SPINDLE),
    "ihc": (_POSITIVE, _NEGATIVE, _OTHER),
}
"""Stain -> kinds of the types 1..T: CoNSeP's for H&E; immunopositive tumour, immunonegative tumour,
non-tumour for Ki67."""

_VECTORS = {
    "he": ((0.57, 0.75, 0.35), (0.15, 0.88, 0.42)),
    "ihc": ((0.66, 0.67, 0.33), (0.30, 0.57, 0.76)),
}
"""Stain -> optical density of (haematoxylin, eosin or DAB) in R, G, B."""


def generate(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    density: float = 7e-4,
    stain: str = "he",
    scale: float = 1.0,
) -> tuple[NDArray[np.uint8], Instances]:
    """Generate one image with its annotation.

    Args:
        shape: (H, W) in pixels.
        rng: The only source of randomness.
        density: Nuclei attempted per px^2; crowding leaves slightly fewer.
        stain: ``"he"`` (types as in CoNSeP: 1 miscellaneous, 2 inflammatory, 3 epithelial, 4 spindle-shaped)
            or ``"ihc"`` (Ki67: 1 immunopositive tumour, 2 immunonegative tumour, 3 non-tumour).
        scale: Magnification relative to 40x; 0.5 gives an image at 20x.

    Returns:
        The image, uint8 (H, W, 3) RGB, and its nuclei with `labels` and `types`; with ``"ihc"`` also
        `regions`, a weak annotation of parts of the tumour (2) and of other tissue (1) as in figure 3 of
        Xing et al. (2019).

    Raises:
        ConfigError: If the stain is unknown.
    """
    if stain not in KINDS:
        raise unknown_name("stain", stain, KINDS)
    tissue = lay_out(shape, rng, scale)
    labels, types, nuclear = _nuclei(tissue, rng, round(density * shape[0] * shape[1]), stain, scale)
    first, second = _stroma(tissue, labels, rng, stain, scale)
    inside = nuclear.sum(axis=0) > 0
    for background, stained in zip((first, second), nuclear, strict=True):
        background[inside] *= 0.55  # the nucleus displaces cytoplasm, some of which remains above and below it
        background += stained
    image = _light(np.stack([first, second], axis=-1), stain, rng, scale)
    regions = _weak_regions(tissue, rng, scale) if stain == "ihc" else None
    return image, Instances(shape, labels=labels, types=types, regions=regions)


def generate_dist(
    labels: NDArray[np.integer],
    rng: np.random.Generator,
    mu: float = 127.0,
    sigma_1: float = 100.0,
    sigma_2: float = 10.0,
    sigma_3: float = 5.0,
) -> tuple[NDArray[np.uint8], Instances]:
    """Simulate an image from an annotation: algorithm 1 of Naylor et al. (2018), section V-A.

    Each nucleus gets one colour, drawn around `mu`, and noise; then half-normal noise is added everywhere. The
    components are the connected components of the annotation as a mask, so touching nuclei become one, as in the
    paper.

    Args:
        labels: (H, W), any integer dtype, 0 = background.
        rng: The only source of randomness.
        mu: Mean of the colour of a component.
        sigma_1: Standard deviation of the colour of a component.
        sigma_2: Standard deviation of the noise within a component.
        sigma_3: Scale of the half-normal noise of every pixel.

    Returns:
        The image, uint8 (H, W, 3), and the dilated components as nuclei.
    """
    components, _ = connected_components(labels > 0, 8)
    # a grey-level dilation grows each component by one pixel without merging components
    grown = cv2.dilate(components.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    grown = np.where(components > 0, components, grown)
    nuclei, _, _ = relabel(grown)
    count = int(nuclei.max(initial=0))
    colours = np.vstack([np.zeros((1, 3)), rng.normal(mu, sigma_1, (count, 3))])
    image = colours[nuclei]
    image += np.where(nuclei > 0, rng.normal(0.0, sigma_2, nuclei.shape), 0.0)[..., None]
    image += np.abs(rng.normal(0.0, sigma_3, image.shape))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), Instances(nuclei.shape, labels=nuclei)


# ---- tissue -------------------------------------------------------------------------------------------


def _stroma(
    tissue: Tissue, labels: LabelMap, rng: np.random.Generator, stain: str, scale: float
) -> tuple[Field, Field]:
    """Return the concentrations of both stains outside the nuclei."""
    shape = labels.shape
    epithelium, tissue_share = tissue.epithelium, 1 - tissue.empty
    distance, owner = cv2.distanceTransformWithLabels((labels == 0).astype(np.uint8), cv2.DIST_L2, 3)
    edges = cv2.morphologyEx(owner.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    membranes = cv2.GaussianBlur(edges.astype(np.float32), (0, 0), 1.0 * max(scale, 0.5))
    near = np.exp(-distance / np.float32(9 * scale))
    grain = 0.6 * noise(shape, 5 * scale, rng) + 0.5 * noise(shape, 2 * scale, rng)
    cloud = noise(shape, 60 * scale, rng)
    cytoplasm = (1 + 0.10 * grain + 0.12 * cloud - 0.2 * membranes) * epithelium
    matrix = np.clip(1 + 0.32 * tissue.fibres + 0.12 * grain + 0.25 * cloud, 0.12, None) * (1 - epithelium)
    if stain == "he":
        levels = rng.uniform((0.08, 0.03, 0.22, 0.22), (0.22, 0.09, 0.42, 0.45))
    else:
        levels = rng.uniform((0.08, 0.05, 0.04, 0.02), (0.14, 0.10, 0.08, 0.06))
    first = (levels[0] * cytoplasm * (1 + 0.5 * near) + levels[1] * matrix) * tissue_share
    second = (levels[2] * cytoplasm * (1 + 0.15 * near) + levels[3] * matrix) * tissue_share
    return first.astype(np.float32), second.astype(np.float32)


# ---- nuclei ------------------------------------------------------------------------------------------


def _draw_type(tissue: Tissue, y: int, x: int, rng: np.random.Generator, stain: str, positive: float) -> int:
    """Return the type 1..T of a nucleus at a position."""
    in_epithelium = tissue.epithelium[y, x] > 0.5
    if stain == "ihc":
        if not in_epithelium:
            return 3
        return 1 if rng.random() < positive else 2
    if rng.random() < 0.05:
        return 1
    if in_epithelium:
        return 2 if rng.random() < 0.08 else 3
    return 2 if rng.random() < 0.15 + 0.75 * tissue.infiltrate[y, x] else 4


@dataclass
class _Outline:
    """One nucleus in its window: rows and columns of the image, relative radius and mask."""

    top: int
    left: int
    radius: Field
    mask: NDArray[np.bool_]


def _outline(kind: Kind, centre: tuple[float, float], angle: float, rng: np.random.Generator, scale: float) -> _Outline:
    """Return an ellipse with a Fourier-perturbed radius around `centre` = (y, x)."""
    minor = max(float(rng.normal(*kind.minor)), 0.6 * kind.minor[0]) * scale
    major = minor * rng.uniform(*kind.aspect)
    reach = int(np.ceil(major * (1 + 2.5 * kind.irregularity))) + 1
    top, left = int(centre[0]) - reach, int(centre[1]) - reach
    y, x = np.ogrid[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    dy, dx = (y - centre[0]).astype(np.float32), (x - centre[1]).astype(np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (dx * cos + dy * sin) / np.float32(major), (dy * cos - dx * sin) / np.float32(minor)
    theta = np.arctan2(v, u)
    limit: Field = np.ones_like(theta)
    for order in (2, 3, 4, 5):
        amplitude, phase = rng.normal(0, kind.irregularity / (order - 1) ** 0.5), rng.uniform(0, 2 * np.pi)
        limit += np.float32(amplitude) * np.cos(order * theta + np.float32(phase))
    radius = np.asarray(np.sqrt(u * u + v * v) / np.maximum(limit, 0.3), np.float32)
    return _Outline(top, left, radius, radius < 1)


def _nuclei(
    tissue: Tissue, rng: np.random.Generator, count: int, stain: str, scale: float
) -> tuple[LabelMap, NDArray[np.int64], Field]:
    """Place nuclei; return their labels, their types, and both stains inside them, (2, H, W)."""
    shape = tissue.epithelium.shape
    labels = np.zeros(shape, np.int32)
    stained = np.zeros((2, *shape), np.float32)
    chromatin = 0.8 * noise(shape, 4 * scale, rng) + 0.4 * noise(shape, 2.2 * scale, rng)
    positive = rng.uniform(0.1, 0.6)
    placed: list[list[tuple[float, float]]] = [[] for _ in KINDS[stain]]
    types: list[int] = []
    for _ in range(6 * count):
        if len(types) == count:
            break
        y, x = float(rng.uniform(0, shape[0])), float(rng.uniform(0, shape[1]))
        kind_id = _draw_type(tissue, int(y), int(x), rng, stain, positive)
        kind, earlier = KINDS[stain][kind_id - 1], placed[kind_id - 1]
        if earlier and rng.random() < kind.cohesion:
            near = earlier[int(rng.integers(len(earlier)))]
            step, direction = 2.1 * kind.minor[0] * scale * rng.uniform(0.95, 1.35), rng.uniform(0, 2 * np.pi)
            y, x = near[0] + step * np.sin(direction), near[1] + step * np.cos(direction)
            if not (0 <= y < shape[0] and 0 <= x < shape[1]):
                continue
        field = tissue.across_gland if tissue.epithelium[int(y), int(x)] > 0.5 else tissue.along_fibres
        outline = _outline(kind, (y, x), float(field[int(y), int(x)]) + rng.normal(0, 0.3), rng, scale)
        if _paint(outline, kind, labels, stained, chromatin, tissue, len(types) + 1, rng, scale):
            types.append(kind_id)
            earlier.append((y, x))
    return (*_tidy(labels, np.array(types, np.int64), stained, scale), stained)


def _paint(
    outline: _Outline,
    kind: Kind,
    labels: LabelMap,
    stained: Field,
    chromatin: Field,
    tissue: Tissue,
    number: int,
    rng: np.random.Generator,
    scale: float,
) -> bool:
    """Place a nucleus behind the existing ones; return False if there is no room."""
    height, width = labels.shape
    bottom, right = outline.top + outline.mask.shape[0], outline.left + outline.mask.shape[1]
    rows, columns = (
        slice(max(outline.top, 0), min(bottom, height)),
        slice(max(outline.left, 0), min(right, width)),
    )
    part = (
        slice(rows.start - outline.top, rows.stop - outline.top),
        slice(columns.start - outline.left, columns.stop - outline.left),
    )
    mask = outline.mask[part]
    free = mask & (labels[rows, columns] == 0)
    area, room = np.count_nonzero(mask), np.count_nonzero(free)
    if room < max(0.8 * area, MIN_AREA * scale**2):
        return False
    if float(tissue.empty[rows, columns][mask].mean()) > 0.3:
        return False
    radius = outline.radius[part]
    base = np.float32(rng.uniform(*kind.density))
    texture = chromatin[rows, columns]
    body = 1 + np.float32(kind.chromatin) * texture
    # the membrane is a thin dark ring; the relative radius falls off faster in small nuclei, so its width is in pixels
    thickness = np.float32(1.6 / kind.minor[0])
    body += np.float32(kind.rim) * np.exp(-(((1 - radius) / thickness) ** 2))
    for _ in range(int(rng.integers(kind.nucleoli + 1))):
        _add_nucleolus(body, radius, rng, scale)
    stain = stained[1 if kind.brown else 0, rows, columns]
    stain[free] = (base * np.clip(body, 0.25, 2.6))[free]
    labels[rows, columns][free] = number
    return True


def _add_nucleolus(body: Field, radius: Field, rng: np.random.Generator, scale: float) -> None:
    """Darken a small disc inside a nucleus."""
    inner = np.argwhere(radius < 0.55)
    if not len(inner):
        return
    cy, cx = inner[int(rng.integers(len(inner)))]
    y, x = np.ogrid[: body.shape[0], : body.shape[1]]
    size = rng.uniform(1.2, 2.2) * scale
    body += np.float32(0.9) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2).astype(np.float32) / np.float32(size**2))


def _tidy(
    labels: LabelMap, types: NDArray[np.int64], stained: Field, scale: float
) -> tuple[LabelMap, NDArray[np.int64]]:
    """Keep the largest 4-connected part of each nucleus if it is large enough; clear all other parts."""
    parts, count = connected_components(labels, 4)
    area = np.bincount(parts.ravel(), minlength=count + 1)
    owner = np.zeros(count + 1, np.int64)
    owner[parts.ravel()] = labels.ravel()
    order = np.lexsort((area, owner))  # the last part of each owner is its largest
    last = np.append(owner[order][1:] != owner[order][:-1], True)
    kept = np.zeros(count + 1, bool)
    kept[order[last]] = True
    kept &= (area >= MIN_AREA * scale**2) & (owner > 0)
    dropped = ~kept[parts]
    labels[dropped] = 0
    stained[:, dropped] = 0
    compact, left, _ = relabel(labels, types)
    return compact, np.zeros(0, np.int64) if left is None else left


# ---- light and regions -------------------------------------------------------------------------------


def _light(stains: NDArray[np.float32], stain: str, rng: np.random.Generator, scale: float) -> NDArray[np.uint8]:
    """Turn concentrations (H, W, 2) into an image: Beer-Lambert, blur of the optics, noise of the camera."""
    vectors = np.array(_VECTORS[stain]) + rng.normal(0, 0.035, (2, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = rng.uniform(0.85, 1.2, 2)
    density = stains @ (vectors * strength[:, None]).astype(np.float32)
    white = rng.uniform(232, 250) + rng.normal(0, 3, 3)
    image = np.exp(-np.float32(np.log(10)) * density) * white.astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), max(rng.uniform(0.8, 1.3) * scale, 0.5))
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(2.0)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def _weak_regions(tissue: Tissue, rng: np.random.Generator, scale: float) -> NDArray[np.uint8]:
    """Outline some areas of tumour (2) and other tissue (1) with coarse polygons; the rest is 0."""
    shape = tissue.epithelium.shape
    regions = np.zeros(shape, np.uint8)
    tumour = tissue.epithelium > 0.5
    for value, area in ((2, tumour), (1, ~tumour)):
        places = np.argwhere(area)
        for _ in range(max(2, round(len(places) / (220 * scale) ** 2 * 3))):
            if not len(places):
                break
            y, x = places[int(rng.integers(len(places)))]
            turns = np.sort(rng.uniform(0, 2 * np.pi, 9))
            reach = rng.uniform(35, 90, 9) * scale
            corners = np.stack([x + reach * np.cos(turns), y + reach * np.sin(turns)], axis=1)
            polygon = cv2.fillPoly(np.zeros(shape, np.uint8), [np.rint(corners).astype(np.int32)], 1)
            regions[(polygon > 0) & area] = value
    return regions
