from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from leaderboards.statistics.bootstrap import mean_interval


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).beta(2, 1, 14)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa").confidence_interval
    width = theirs.high - theirs.low
    assert mean_interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)


def test_depends_on_neither_order_nor_holes() -> None:
    values = np.random.default_rng(1).random(20)
    found = mean_interval(values)
    assert found == mean_interval(values[::-1]) == mean_interval([*values, np.nan])
    assert found[0] < values.mean() < found[1]


def test_covers_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    intervals = [mean_interval(random.normal(0.5, 0.1, 40)) for _ in range(60)]
    assert 0.85 <= np.mean([low < 0.5 < high for low, high in intervals]) <= 1.0


def test_skewed_scores_have_a_skewed_interval() -> None:
    values = np.array([0.1, 0.2, *[0.7] * 12])
    low, high = mean_interval(values)
    assert values.mean() - low > 1.3 * (high - values.mean())


def test_degenerate_scores() -> None:
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert np.isnan(mean_interval([0.5])).all()
    assert np.isnan(mean_interval([np.nan, 0.5])).all()
    assert np.isnan(mean_interval([])).all()
