"""Mirroring and rotating: maps of a transformed image come back in the place and direction of the image."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.synthetic.images import generate
from postproc.codecs.hover import HoverCodec
from postproc.codecs.masks import MaskCodec
from postproc.codecs.star_convex import StarConvexCodec
from postproc.codecs.typed import TypedCodec
from postproc.errors import ConfigError
from postproc.instances import Instances
from postproc.symmetry import SYMMETRIES, Symmetry

Y, X = np.mgrid[:40, :30].astype(float)
LANDSCAPE = np.sin(X / 5) + np.cos(Y / 7 + X / 11)


def transformed(array: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """Transform the last two axes, by NumPy alone."""
    mirrored = array[..., ::-1] if symmetry.mirrored else array
    return np.rot90(mirrored, symmetry.turns, axes=(-2, -1))


def test_there_are_eight_and_the_first_changes_nothing() -> None:
    image = np.arange(12).reshape(3, 4)
    seen = {str(transformed(image, symmetry)) for symmetry in SYMMETRIES}
    assert len(seen) == len(SYMMETRIES) == 8
    assert np.array_equal(transformed(image, SYMMETRIES[0]), image)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_pixels_come_back(symmetry: Symmetry) -> None:
    maps = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    assert np.array_equal(symmetry.undo(transformed(maps, symmetry)), maps)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_vectors_are_turned_back(symmetry: Symmetry) -> None:
    """The gradient of a smooth landscape turns with the landscape."""

    def gradient(values: np.ndarray) -> np.ndarray:
        down, right = np.gradient(values)
        return np.stack([right, down])

    found = symmetry.undo_vectors(gradient(transformed(LANDSCAPE, symmetry)))
    assert np.allclose(found, gradient(LANDSCAPE))


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_directions_are_turned_back(symmetry: Symmetry) -> None:
    """Slopes along 8 directions turn with the landscape."""

    def slopes(values: np.ndarray) -> np.ndarray:
        down, right = np.gradient(values)
        angles = 2 * np.pi * np.arange(8) / 8
        return np.stack([np.cos(a) * right + np.sin(a) * down for a in angles])

    found = symmetry.undo_directions(slopes(transformed(LANDSCAPE, symmetry)))
    assert np.allclose(found, slopes(LANDSCAPE))


@pytest.mark.parametrize("codec", [HoverCodec(2), StarConvexCodec(16), TypedCodec(StarConvexCodec(16), 2)])
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_codecs_turn_their_maps_back(codec: HoverCodec, symmetry: Symmetry) -> None:
    """The targets of a transformed annotation come back as those of the annotation, up to the pixel grid."""
    truth = generate((96, 80), np.random.default_rng(3), density=2e-3)[1]
    types = np.arange(truth.count) % 2 + 1
    labels = np.ascontiguousarray(transformed(truth.labels, symmetry))
    expected = codec.perfect(codec.encode(Instances(truth.shape, labels=truth.labels, types=types)))
    turned = codec.perfect(codec.encode(Instances(labels.shape, labels=labels, types=types)))
    found = codec.undo(turned, symmetry)
    assert set(found) == set(expected)
    for name, value in found.items():
        for channel, wanted in zip(value, expected[name], strict=True):
            # HoVer's zero is one pixel left of and above the centroid, which does not turn with the nucleus
            assert np.corrcoef(channel.ravel(), wanted.ravel())[0, 1] > 0.95, name


def test_what_cannot_be_averaged_says_so() -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        StarConvexCodec(30).check_symmetries()
    with pytest.raises(ConfigError, match="multiple of 4"):
        TypedCodec(StarConvexCodec(30), 2).check_symmetries()
    with pytest.raises(ConfigError, match="detections"):
        MaskCodec().check_symmetries()
    StarConvexCodec(32).check_symmetries()
    HoverCodec().check_symmetries()
