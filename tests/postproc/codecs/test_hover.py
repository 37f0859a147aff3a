"""HoVer targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from postproc.codecs.hover import HoverCodec, gradient_measure, hover_maps
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances


def by_definition(labels, smallest):
    """One connected part after the other, in floating point."""
    maps = np.zeros((2, *labels.shape))
    for label in np.unique(labels[labels > 0]):
        parts, count = ndimage.label(labels == label)
        for part in range(1, count + 1):
            inside = parts == part
            if inside.sum() < smallest:
                continue
            for axis, values in zip((0, 1), np.nonzero(inside)[::-1], strict=True):
                offset = values - int(values.mean() + 0.5) + 1.0
                low, high = -offset.min(), offset.max()
                offset[offset < 0] /= low if low > 0 else 1
                offset[offset > 0] /= high if high > 0 else 1
                maps[axis][inside] = offset
    return maps


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 10, 30]))
def test_hover_maps_equal_their_definition(seed, smallest):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=rng.integers(1, 50, 2)), 2)
    labels = np.where(noise > 0, rng.integers(1, 4) * 10**9 + (noise > 0.15), 0)
    result = hover_maps(labels, smallest)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, by_definition(labels, smallest), atol=1e-6)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["consep_3", "kumar_breast", "kumar_prostate"])
def test_hover_maps_equal_the_official_targets(golden_root, name):
    with np.load(golden_root / f"hover_targets_{name}.npz") as golden:
        horizontal, vertical = hover_maps(golden["instances"])
        compare = golden["compare"]
        assert compare.any()
        np.testing.assert_allclose(horizontal[compare], golden["horizontal"][compare], atol=1e-5)
        np.testing.assert_allclose(vertical[compare], golden["vertical"][compare], atol=1e-5)


def test_zero_is_one_px_before_the_rounded_centroid():
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 1:8] = 1  # centroid at row 4, column 4
    horizontal, vertical = hover_maps(labels)
    assert horizontal[4, 1:8].tolist() == pytest.approx([-1, -0.5, 0, 0.25, 0.5, 0.75, 1])
    assert vertical[2:7, 4].tolist() == pytest.approx([-1, 0, 1 / 3, 2 / 3, 1])
    assert not horizontal[labels == 0].any()


def test_nuclei_under_30_px_have_no_distances_but_are_nuclear():
    labels = np.zeros((20, 30), np.int32)
    labels[2:7, 2:8], labels[10:15, 3:8] = 1, 2  # 30 and 25 px
    labels[2:8, 15:21], labels[12:14, 15:20] = 3, 3  # 36 px, and a part of the same nucleus of 10 px
    targets = HoverCodec().encode(Instances((20, 30), labels=labels))
    np.testing.assert_array_equal(targets["np"], labels > 0)
    shown = np.abs(targets["hv"]).max(axis=0) > 0
    assert shown[2:7, 2:8].any()
    assert shown[2:8, 15:21].any()
    assert not shown[9:].any()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["consep_3", "kumar_breast", "kumar_prostate"])
def test_small_nuclei_are_left_out_as_in_the_official_targets(golden_root, name):
    with np.load(golden_root / f"hover_targets_{name}.npz") as golden:
        labels = golden["instances"]
        small = (np.bincount(labels.ravel())[labels] < 30) & (labels > 0)
        assert small.any()
        assert not golden["horizontal"][small].any()
        assert not hover_maps(labels)[:, small].any()


def test_gradient_measure_is_low_between_nuclei():
    labels = np.zeros((40, 80), np.int32)
    labels[5:35, 10:40], labels[5:35, 40:70] = 1, 2
    measure = gradient_measure(*hover_maps(labels))
    assert measure.dtype == np.float32
    assert measure[20, 39:41].max() < 0.1 < 0.6 < measure[20, 25]


def test_target_forms():
    labels = np.zeros((20, 30), np.int32)
    labels[3:9, 3:9], labels[12:18, 20:28] = 1, 2
    truth = Instances((20, 30), labels=labels, types=np.array([3, 0]))
    targets = HoverCodec(types=3).encode(truth)
    assert {name: (value.dtype.name, value.shape) for name, value in targets.items()} == {
        "np": ("int64", (20, 30)),
        "hv": ("float32", (2, 20, 30)),
        "tp": ("int64", (20, 30)),
    }
    np.testing.assert_array_equal(targets["tp"], np.array([0, 3, 0])[labels])
    assert set(HoverCodec().encode(truth)) == {"np", "hv"}


def test_regions_under_10_px_are_dropped():
    labels = np.zeros((30, 30), np.int32)
    labels[2:5, 2:5], labels[10:25, 10:25] = 1, 2
    codec = HoverCodec()
    result = codec.decode(codec.perfect(codec.encode(Instances((30, 30), labels=labels))), codec.defaults())
    np.testing.assert_array_equal(result.labels, labels == 2)


def test_errors_name_the_remedy():
    labels = np.ones((4, 4), np.int32)
    with pytest.raises(DataError, match="outlines"):
        HoverCodec().encode(Instances((4, 4)))
    with pytest.raises(DataError, match="types"):
        HoverCodec(types=2).encode(Instances((4, 4), labels=labels))
    with pytest.raises(DataError, match=r"type 5, expected 0\.\.2"):
        HoverCodec(types=2).encode(Instances((4, 4), labels=labels, types=np.array([5])))
    with pytest.raises(ConfigError, match="Choices"):
        HoverCodec(energy="distance")
    with pytest.raises(ConfigError, match="Choices"):
        HoverCodec(markers="distance")
    with pytest.raises(ConfigError, match="types is -1"):
        HoverCodec(types=-1)
