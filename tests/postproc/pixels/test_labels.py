"""Consecutive ids."""

from __future__ import annotations

import numpy as np
import pytest

from postproc.pixels.labels import relabel


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("ids", [[], [1, 2, 3], [2, 5, 40], [3, 100, 127]])  # 127 exceeds the number of pixels
def test_ids_become_consecutive_in_their_order(dtype: type, ids: list[int]) -> None:
    labels = np.random.default_rng(0).choice(np.array([0, *ids], dtype), (8, 9))
    compact, types, old = relabel(labels, np.arange(127) % 5)
    assert compact.dtype == np.int32
    np.testing.assert_array_equal(old, ids)
    np.testing.assert_array_equal(np.array([0, *ids])[compact], labels)
    assert types is not None
    np.testing.assert_array_equal(types, (np.array(ids, np.int64) - 1) % 5)


def test_negative_ids_and_missing_types_are_refused() -> None:
    with pytest.raises(ValueError, match="negative id -2"):
        relabel(np.array([[0, -2]]))
    with pytest.raises(ValueError, match="no row among 1 types"):
        relabel(np.array([[0, 2]]), np.array([0]))


def test_a_mask_is_one_nucleus() -> None:
    compact, _, ids = relabel(np.array([[True, False, True]]))
    np.testing.assert_array_equal(compact, [[1, 0, 1]])
    np.testing.assert_array_equal(ids, [1])
