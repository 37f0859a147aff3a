"""Clusters found block by block are those of the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes, label

from postproc.pixels.clusters import ClusterMap, empty_block, keep_clusters, label_block

EIGHT = np.ones((3, 3), int)


def clusters_of(mask: np.ndarray, side: int):
    rows, columns = -(-mask.shape[0] // side), -(-mask.shape[1] // side)
    collected = ClusterMap(rows, columns)
    for row in range(rows):
        for column in range(columns):
            part = mask[row * side : (row + 1) * side, column * side : (column + 1) * side]
            collected.add(row, column, label_block(np.ascontiguousarray(part), row * side, column * side, mask.shape))
    return collected.finish()


@given(st.integers(0, 10**6), st.integers(1, 26), st.integers(1, 26), st.integers(1, 9), st.floats(0.2, 0.8))
@settings(max_examples=80, deadline=None)
def test_blocks_give_the_components_of_the_filled_image(
    seed: int, height: int, width: int, side: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    found = clusters_of(mask, side)
    parts, count = label(binary_fill_holes(mask), EIGHT)
    expected = {}
    for k in range(1, count + 1):
        y, x = np.nonzero(parts == k)
        expected[int(y[0] * width + x[0])] = (y.min(), x.min(), y.max() + 1, x.max() + 1)
    assert {int(f): tuple(b) for f, b in zip(found.first, found.boxes.tolist(), strict=True)} == expected
    for (row, column), of_part in found.of_part.items():
        inside = mask[row * side : (row + 1) * side, column * side : (column + 1) * side]
        assert len(of_part) == label(inside, EIGHT)[1]


def test_a_ring_across_all_blocks_takes_in_what_it_encloses() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[7:33, 7:33] = False
    mask[18:22, 18:22] = True
    mask[0, 39] = True
    found = clusters_of(mask, 10)
    assert sorted(found.first.tolist()) == [39, 5 * 40 + 5]
    mask[5, 20] = False  # over 8 neighbours the second row still closes the ring
    assert len(clusters_of(mask, 10).first) == 2
    mask[6, 20] = False
    assert len(clusters_of(mask, 10).first) == 3


def test_only_whole_clusters_are_kept() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:6, 2:6] = mask[10:14, 0:30] = True
    region = np.ascontiguousarray(mask[0:20, 0:20])
    kept = keep_clusters(region, np.array([2 * 30 + 2]), 0, 0, 30)
    assert kept[2:6, 2:6].all()
    assert kept.sum() == 16
    with pytest.raises(ValueError, match="1 of 1 clusters"):
        keep_clusters(region, np.array([7]), 0, 0, 30)


def test_a_missing_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 of 1 blocks"):
        ClusterMap(1, 1).finish()


@pytest.mark.parametrize("box", [(0, 0, 5, 7), (5, 7, 9, 11), (5, 7, 10, 12), (0, 7, 5, 12), (3, 0, 6, 4)])
def test_a_block_without_support_needs_no_px(box: tuple[int, int, int, int]) -> None:
    expected = label_block(np.zeros((box[2] - box[0], box[3] - box[1]), np.bool_), box[0], box[1], (10, 12))
    found = empty_block(box, (10, 12))
    for name in ("boxes", "first", "outer", "contacts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    for one, other in zip(found.lines, expected.lines, strict=True):
        np.testing.assert_array_equal(one, other)
