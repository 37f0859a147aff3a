from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import wilcoxon

from leaderboards.statistics.wilcoxon import holm, signed_rank


@pytest.mark.parametrize("n", [1, 2, 5, 14, 32, 50])
def test_agrees_with_scipy_where_no_ranks_are_shared(n: int) -> None:
    random = np.random.default_rng(n)
    first, second = random.normal(0.1, 1, n), random.normal(0, 1, n)
    expected = wilcoxon(first, second, alternative="greater", method="exact")
    found = signed_rank(first, second)
    assert found.statistic == expected.statistic
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.n, found.zeros) == (n, 0)


@pytest.mark.parametrize("differences", [[1, 1, 2, -2, 3], [2, -1, 2, -2, 2, 0, 1], [1, 1, 1, 1], [-3, 0, 0, 3, 5, 5]])
def test_shared_ranks_are_exact_too(differences: list[int]) -> None:
    kept = np.array([d for d in differences if d])
    ranks = np.array([(np.abs(kept) < abs(d)).sum() + ((np.abs(kept) == abs(d)).sum() + 1) / 2 for d in kept])
    observed = ranks[kept > 0].sum()
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(kept))]
    found = signed_rank(np.array(differences) / 10, np.zeros(len(differences)))
    assert found.statistic == observed
    assert found.p == pytest.approx(np.mean([s >= observed for s in sums]))
    assert found.zeros == differences.count(0)


def test_differences_equal_on_paper_share_a_rank() -> None:
    first, second = [0.3, 0.4, 0.1], [0.2, 0.3, 0.3]  # differences 0.1 (twice, unequal in binary) and -0.2
    assert 0.3 - 0.2 != 0.4 - 0.3
    assert signed_rank(first, second).statistic == 3.0
    assert signed_rank(first, second).p == pytest.approx(5 / 8)


def test_images_without_a_value_are_left_out() -> None:
    first, second = [0.9, np.nan, 0.8, 0.7, 0.5], [0.1, 0.2, np.nan, 0.3, 0.5]
    found = signed_rank(first, second)
    assert (found.n, found.zeros, found.statistic, found.p) == (3, 1, 3.0, 0.25)


def test_nothing_to_compare_is_no_evidence() -> None:
    for first, second in (([], []), ([0.5, 0.5], [0.5, 0.5]), ([np.nan], [0.5])):
        found = signed_rank(first, second)
        assert found.p == 1.0
        assert np.isnan(found.statistic)


def test_many_images_do_not_overflow() -> None:
    random = np.random.default_rng(0)
    first = random.random(300)
    second = first + random.normal(0, 0.1, 300)
    normal = wilcoxon(first, second, alternative="greater", method="approx", correction=True)
    assert signed_rank(first, second).p == pytest.approx(normal.pvalue, abs=2e-3)


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
