"""mPQ, bPQ and mPQ+ against a plain implementation that compares masks pair by pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmark.metrics.image import score_image
from benchmark.metrics.pooling import summarise
from benchmark.metrics.tissues import tissue_scores
from datamodules.pannuke import TYPES, merge_channels
from postproc.instances import Instances

T = len(TYPES)
TISSUES = ("Breast", "Colon", "Skin")
Channels = NDArray[np.int64]


def random_channels(rng: np.random.Generator, nuclei: int) -> Channels:
    """Draw (H, W, 5): rectangles of random types that do not overlap, with repeated ids in different channels."""
    channels = np.zeros((48, 48, T), np.int64)
    cells = rng.permutation(36)[:nuclei]
    for cell in cells:
        top, left = 8 * (cell // 6) + rng.integers(0, 3), 8 * (cell % 6) + rng.integers(0, 3)
        kind = int(rng.choice([0, 0, 0, 1, 2, 4, 4]))
        height, width = rng.integers(3, 6, 2)
        channels[top : top + height, left : left + width, kind] = 1 + 3 * (channels[..., kind].max() + 1)
    return channels


def changed(rng: np.random.Generator, channels: Channels) -> Channels:
    """Move some nuclei by a pixel, give some another type, and leave some out."""
    found = np.zeros_like(channels)
    for kind in range(T):
        for number in np.unique(channels[..., kind])[1:]:
            mask = channels[..., kind] == number
            if rng.random() < 0.15:
                continue
            if rng.random() < 0.5:
                mask = np.roll(mask, int(rng.integers(-1, 2)), axis=int(rng.integers(2)))
            to = int(rng.integers(T)) if rng.random() < 0.2 else kind
            mask &= ~(found > 0).any(axis=2)
            found[mask, to] = found[..., to].max() + 1
    return found


def masks_of(channel: Channels) -> list[NDArray[np.bool_]]:
    return [channel == number for number in np.unique(channel) if number]


def plain_counts(true: Sequence[NDArray[np.bool_]], pred: Sequence[NDArray[np.bool_]]) -> tuple[int, int, int, float]:
    ious = [(t & p).sum() / (t | p).sum() for t in true for p in pred]
    hits = [float(iou) for iou in ious if iou > 0.5]
    return len(hits), len(pred) - len(hits), len(true) - len(hits), sum(hits)


def plain_pq(tp: float, fp: float, fn: float, iou_sum: float) -> float:
    """PQ with the constant that the authors of PanNuke add to the number of pairs."""
    return tp / (tp + 0.5 * fp + 0.5 * fn) * iou_sum / (tp + 1e-6)


def all_masks(channels: Channels) -> list[NDArray[np.bool_]]:
    return [mask for kind in range(T) for mask in masks_of(channels[..., kind])]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Channels, Channels]]:
    rng = np.random.default_rng(5)
    made = []
    for number in range(14):
        true = random_channels(rng, 0 if number == 3 else int(rng.integers(1, 20)))
        made.append((true, random_channels(rng, 4) if number == 3 else changed(rng, true)))
    return made


@pytest.fixture(scope="module")
def scores(pairs: list[tuple[Channels, Channels]]) -> pd.DataFrame:
    rows = [
        {"tissue": TISSUES[k % 3], **score_image(merge_channels(t), merge_channels(p), radius=12, types=T)}
        for k, (t, p) in enumerate(pairs)
    ]
    return pd.DataFrame(rows)


def nan_mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def test_means_over_tissues(pairs: list[tuple[Channels, Channels]], scores: pd.DataFrame) -> None:
    multi: dict[str, list[float]] = {tissue: [] for tissue in TISSUES}
    binary: dict[str, list[float]] = {tissue: [] for tissue in TISSUES}
    for k, (true, pred) in enumerate(pairs):
        each = []
        for kind in range(T):
            masks = masks_of(true[..., kind])
            each.append(plain_pq(*plain_counts(masks, masks_of(pred[..., kind]))) if masks else float("nan"))
        multi[TISSUES[k % 3]].append(nan_mean(each))
        everything = all_masks(true)
        binary[TISSUES[k % 3]].append(
            plain_pq(*plain_counts(everything, all_masks(pred))) if everything else float("nan")
        )
    found = tissue_scores(scores)
    for name, plain in (("mpq", multi), ("bpq", binary)):
        for tissue in TISSUES:
            assert found[f"{name}_{tissue}"] == pytest.approx(nan_mean(plain[tissue]), abs=1e-6)
        assert found[f"{name}_by_tissue"] == pytest.approx(nan_mean([nan_mean(v) for v in plain.values()]), abs=1e-6)
    assert 0.3 < found["mpq_by_tissue"] < found["bpq_by_tissue"] < 1


def test_counts_pooled_over_images(pairs: list[tuple[Channels, Channels]], scores: pd.DataFrame) -> None:
    found = summarise(scores)
    each = {}
    for kind in range(T):
        sums = np.sum([plain_counts(masks_of(t[..., kind]), masks_of(p[..., kind])) for t, p in pairs], axis=0)
        each[kind + 1] = plain_pq(*sums) if sums[:3].any() else float("nan")
    assert {k: found[f"pq_{k}_pooled"] for k in each} == pytest.approx(each, abs=1e-6, nan_ok=True)
    assert found["mpq_pooled"] == pytest.approx(np.nanmean(list(each.values())), abs=1e-6)


def test_an_image_without_nuclei_counts_nowhere(scores: pd.DataFrame) -> None:
    empty = scores.iloc[3]
    assert (empty["n_true"], empty["n_pred"]) == (0, 4)
    assert np.isnan(empty["mpq"])
    only = tissue_scores(scores.iloc[[3]])
    assert np.isnan(only["mpq_by_tissue"])
    assert np.isnan(only["bpq_by_tissue"])


def test_nuclei_of_unknown_type_are_in_no_class() -> None:
    labels = np.zeros((8, 8), np.int32)
    labels[:3, :3], labels[5:, 5:] = 1, 2
    truth = Instances((8, 8), labels=labels, types=np.array([1, 0]))
    found = score_image(truth, Instances((8, 8), labels=labels, types=np.array([1, 2])), radius=3, types=2)
    assert found["pq_1"] == 1
    assert np.isnan(found["pq_2"])
    assert found["n_fp_type_2"] == 1
    assert found["mpq"] == found["pq"] == 1


def test_scores_without_tissues_have_no_means() -> None:
    assert tissue_scores(pd.DataFrame([{"pq": 1.0, "n_true": 2.0}])) == {}
