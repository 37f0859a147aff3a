"""Training with the labels of a share of the images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from datamodules.drawing.labelled import has_nuclei, keep_labels
from datamodules.reading.sample import Sample
from postproc.instances import Instances

SHARES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def samples(count: int = 40, labelled: int = 40) -> list[Sample]:
    """Images with regions, the first `labelled` of them with a nucleus."""
    image = np.zeros((4, 4, 3), np.uint8)
    weak = np.ones((4, 4), np.uint8)
    point = {"points": np.ones((1, 2), np.float32), "types": np.ones(1, np.int64)}
    return [
        Sample(image, Instances((4, 4), regions=weak, **(point if k < labelled else {})), f"{k}", f"{k}")
        for k in range(count)
    ]


def labelled(found: list[Sample]) -> set[str]:
    return {sample.image_id for sample in found if has_nuclei(sample.truth)}


def test_shares_are_images_one_within_the_next() -> None:
    given = samples()
    kept = [labelled(keep_labels(given, share, seed=3)) for share in SHARES]
    assert [len(names) for names in kept] == [2, 4, 8, 16, 24, 32, 40]
    assert all(small < large for small, large in itertools.pairwise(kept))


def test_regions_stay_and_so_does_the_order() -> None:
    given = samples()
    found = keep_labels(given, 0.1, seed=0)
    assert [sample.image_id for sample in found] == [sample.image_id for sample in given]
    assert all(sample.truth.regions is not None for sample in found)
    without = next(sample for sample in found if not has_nuclei(sample.truth))
    assert without.truth.types is None
    assert all(sample.truth.points is not None for sample in given)  # what was given is left alone


def test_the_choice_follows_the_seed_alone() -> None:
    chosen = [labelled(keep_labels(samples(), 0.2, seed)) for seed in (0, 0, 1, 2)]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2] != chosen[3]


def test_the_share_is_one_of_the_labelled_images() -> None:
    assert len(labelled(keep_labels(samples(40, 10), 0.2, 0))) == 2
    assert len(labelled(keep_labels(samples(3), 0.05, 0))) == 1  # never none
    assert labelled(keep_labels(samples(5, 0), 0.5, 0)) == set()


@pytest.mark.parametrize("truth", [{}, {"regions": np.zeros((4, 4), np.uint8)}])
def test_regions_are_no_nuclei(truth: dict[str, np.ndarray]) -> None:
    assert not has_nuclei(Instances((4, 4), **truth))
    assert has_nuclei(Instances((4, 4), points=np.zeros((0, 2), np.float32)))
    assert has_nuclei(Instances((4, 4), labels=np.zeros((4, 4), np.int32)))
