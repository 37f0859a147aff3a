"""Which images have nucleus labels, and training with the labels of some of them (Xing et al. 2019, IV-D2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from datamodules.reading.sample import Sample
from postproc.instances import Instances


def has_nuclei(truth: Instances) -> bool:
    """Tell whether the nuclei of an image are annotated, be it that there are none; regions alone are not enough."""
    return truth.labels is not None or truth.points is not None


def keep_labels(samples: Sequence[Sample], share: float, seed: int) -> list[Sample]:
    """Take the nucleus labels off all but a share of the images that have some; regions stay.

    The share counts images, as in the paper. With one seed a smaller share is part of a larger one, and the choice
    depends on nothing but the seed and the number of labelled images.

    Args:
        samples: Images in a fixed order.
        share: In (0, 1]; rounded to whole images, of which at least one keeps its labels.
        seed: Of the choice.

    Returns:
        All images in their order.
    """
    labelled = [k for k, sample in enumerate(samples) if has_nuclei(sample.truth)]
    # no other random number of a run is drawn from this sequence
    order = np.random.default_rng((seed, 0x1ABE1)).permutation(len(labelled))
    kept = {labelled[k] for k in order[: max(1, round(share * len(labelled)))]}
    return [sample if k in kept else _without_nuclei(sample) for k, sample in enumerate(samples)]


def _without_nuclei(sample: Sample) -> Sample:
    truth = Instances(sample.truth.shape, regions=sample.truth.regions)
    return dataclasses.replace(sample, truth=truth)


__all__ = ["has_nuclei", "keep_labels"]
