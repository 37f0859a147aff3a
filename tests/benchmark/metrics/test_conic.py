"""PQ, mPQ+ and R2 of CoNIC against a plain implementation of the challenge's rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.conic import conic_scores, r2
from benchmark.metrics.image import score_image
from postproc.instances import Instances

T, SIDE, BORDER = 3, 40, 8


def random_nuclei(rng: np.random.Generator, count: int) -> Instances:
    labels = np.zeros((SIDE, SIDE), np.int32)
    for number, cell in enumerate(rng.permutation(25)[:count], start=1):
        top, left = 8 * (cell // 5) + rng.integers(0, 2), 8 * (cell % 5) + rng.integers(0, 2)
        labels[top : top + rng.integers(4, 7), left : left + rng.integers(4, 7)] = number
    return Instances((SIDE, SIDE), labels=labels, types=rng.integers(1, T + 1, count))


def centre(nuclei: Instances, kind: int) -> int:
    """Count as extract_patches.py: ids of the type that are left in the centre crop."""
    assert nuclei.labels is not None
    assert nuclei.types is not None
    classes = np.concatenate([[0], nuclei.types])[nuclei.labels]
    crop = (nuclei.labels * (classes == kind))[BORDER:-BORDER, BORDER:-BORDER]
    return len(set(np.unique(crop)) - {0})


def masks(nuclei: Instances, kind: int | None) -> list[np.ndarray]:
    assert nuclei.labels is not None
    assert nuclei.types is not None
    numbers = [k + 1 for k, own in enumerate(nuclei.types) if kind in (None, own)]
    return [nuclei.labels == number for number in numbers]


def plain_counts(true: Instances, pred: Instances, kind: int | None) -> np.ndarray:
    a, b = masks(true, kind), masks(pred, kind)
    hits = [iou for t in a for p in b if (iou := (t & p).sum() / (t | p).sum()) > 0.5]
    return np.array([len(hits), len(b) - len(hits), len(a) - len(hits), sum(hits)])


def quality(counts: np.ndarray) -> float:
    tp, fp, fn, iou = counts
    return float(tp / (tp + 0.5 * fp + 0.5 * fn + 1e-6) * iou / (tp + 1e-6))


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Instances, Instances]]:
    rng = np.random.default_rng(0)
    made = [(random_nuclei(rng, int(n)), random_nuclei(rng, int(m))) for n, m in rng.integers(1, 25, (8, 2))]
    for true, _ in made[:4]:  # found exactly, with one type wrong
        assert true.labels is not None
        assert true.types is not None
        kinds = true.types.copy()
        kinds[0] = kinds[0] % T + 1
        made.append((true, Instances(true.shape, labels=true.labels, types=kinds)))
    empty = Instances((SIDE, SIDE), labels=np.zeros((SIDE, SIDE), np.int32), types=np.zeros(0, np.int64))
    return [*made, (empty, empty), (made[0][0], empty)]


@pytest.fixture(scope="module")
def scores(pairs: list[tuple[Instances, Instances]]) -> pd.DataFrame:
    return pd.DataFrame([score_image(*pair, radius=6, types=T, count_border=BORDER) for pair in pairs])


def test_pq_counts_images_without_nuclei_as_0(pairs: list[tuple[Instances, Instances]], scores: pd.DataFrame) -> None:
    expected = np.mean([quality(plain_counts(*pair, None)) for pair in pairs])
    assert conic_scores(scores, T)["pq_conic"] == pytest.approx(expected, abs=1e-5)
    assert scores["pq"].isna().sum() == 1


def test_mpq_plus_pools_counts(pairs: list[tuple[Instances, Instances]], scores: pd.DataFrame) -> None:
    expected = [quality(sum(plain_counts(*pair, kind) for pair in pairs)) for kind in range(1, T + 1)]
    assert conic_scores(scores, T)["mpq_plus"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_a_type_that_never_occurs_is_0(pairs: list[tuple[Instances, Instances]]) -> None:
    more = pd.DataFrame([score_image(*pair, radius=6, types=T + 1, count_border=BORDER) for pair in pairs])
    fewer = pd.DataFrame([score_image(*pair, radius=6, types=T, count_border=BORDER) for pair in pairs])
    found = [conic_scores(frame, types)["mpq_plus"] for frame, types in ((more, T + 1), (fewer, T))]
    assert found[0] == pytest.approx(found[1] * T / (T + 1))


def test_r2_counts_the_centre(pairs: list[tuple[Instances, Instances]], scores: pd.DataFrame) -> None:
    found = conic_scores(scores, T)
    for kind in range(1, T + 1):
        true, pred = (np.array([centre(pair[side], kind) for pair in pairs]) for side in (0, 1))
        expected = 1 - ((true - pred) ** 2).sum() / ((true - true.mean()) ** 2).sum()
        assert found[f"r2_{kind}"] == pytest.approx(expected)
    assert found["r2"] == pytest.approx(np.mean([found[f"r2_{kind}"] for kind in range(1, T + 1)]))


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [([1, 2, 3], [1, 2, 3], 1), ([1, 2, 3], [2, 2, 2], 0), ([2, 2], [2, 2], 1), ([2, 2], [2, 3], 0)],
)
def test_r2_of_equal_counts(true: list[float], pred: list[float], expected: float) -> None:
    assert r2(np.array(true, float), np.array(pred, float)) == expected


def test_counts_of_the_centre_are_opt_in(pairs: list[tuple[Instances, Instances]]) -> None:
    found = score_image(*pairs[0], radius=6, types=T)
    assert not any("inside" in name for name in found)
    assert "r2" not in conic_scores(pd.DataFrame([found]), T)
