"""The legend below a picture."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.results.legend import Entry, entries_of, scale_bar, with_legend
from benchmark.results.pictures import color, side_by_side
from postproc.instances import Instances


@pytest.mark.parametrize(("width", "mpp", "bar"), [(1000, 0.25, (50, 200)), (900, 0.5, (100, 200)), (300, 1, (50, 50))])
def test_the_scale_bar_is_round_and_fits(width: int, mpp: float, bar: tuple[int, int]) -> None:
    assert scale_bar(width, mpp) == bar


def test_a_tiny_picture_has_no_scale_bar() -> None:
    assert scale_bar(10, 0.25) is None
    assert with_legend(np.zeros((10, 10, 3), np.uint8), [], 0.25).shape[1] == 10


def test_the_picture_is_unchanged_and_the_bar_has_its_length() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 400, 3), np.uint8)
    drawn = with_legend(picture, [Entry("nuclei (3)", (9, 99, 200))], 0.5)
    assert np.array_equal(drawn[:120], picture)
    strip = drawn[120:]
    black = (strip == 0).all(axis=2)
    assert black.sum(axis=1).max() == 100  # 50 microns at 0.5 microns per pixel
    assert (strip == (9, 99, 200)).all(axis=2).any()


def test_entries_that_do_not_fit_continue_below() -> None:
    picture = np.zeros((50, 200, 3), np.uint8)
    entries = [Entry(f"a rather long name {i}", color(i)) for i in range(1, 5)]
    short, tall = (with_legend(picture, entries[:n]).shape[0] for n in (1, 4))
    assert tall > short
    strip = with_legend(picture, entries)[50:]
    for entry in entries:
        assert (strip == entry.color).all(axis=2).any()


def test_entries_count_the_types_that_occur() -> None:
    labels = np.diag(np.arange(1, 6)).astype(np.int32)
    nuclei = Instances((5, 5), labels=labels, types=np.array([0, 2, 2, 3, 2]))
    texts = [entry.text for entry in entries_of(nuclei, ("a", "b"))]
    assert texts == ["no type (1)", "b (3)", "type 3 (1)"]
    assert [e.text for e in entries_of(Instances((5, 5), labels=labels), ())] == ["nuclei (5)"]


def test_a_picture_with_a_legend_stands_beside_one_without() -> None:
    plain = np.zeros((30, 40, 3), np.uint8)
    drawn = with_legend(plain, [Entry("nuclei (2)", color(0))])
    picture = side_by_side([plain, drawn])
    assert picture.shape == (2 * drawn.shape[0], 2 * 80 + 6, 3)
    assert (picture[60:, :80] == 255).all()
    assert (picture[:60, :80] == 0).all()
    assert (picture[::2, 86::2] == drawn).all()
