"""Training with the nucleus labels of only some images (Xing et al. 2019, IV-D2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from datamodules.reading.sample import Sample
from postproc.instances import Instances


def has_nuclei(truth: Instances) -> bool:
    """Return whether the nuclei of an image are annotated (possibly none); regions alone do not count."""
    return truth.labels is not None or truth.points is not None


def keep_labels(samples: Sequence[Sample], share: float, seed: int) -> list[Sample]:
    """Remove the nucleus labels from all but a share of the labelled images; keep regions.

    As in the paper, the share counts images. With the same seed, a smaller share is a subset of a larger one; the
    choice depends only on the seed and the number of labelled images.

    Args:
        samples: Images in a fixed order.
        share: In (0, 1]; rounded to whole images, of which at least one keeps its labels.
        seed: Seed of the choice.

    Returns:
        All images in the same order.
    """
    labelled = [k for k, sample in enumerate(samples) if has_nuclei(sample.truth)]
    # this sequence is used for no other random number of a run
    order = np.random.default_rng((seed, 0x1ABE1)).permutation(len(labelled))
    kept = {labelled[k] for k in order[: max(1, round(share * len(labelled)))]}
    return [sample if k in kept else _without_nuclei(sample) for k, sample in enumerate(samples)]


def _without_nuclei(sample: Sample) -> Sample:
    truth = Instances(sample.truth.shape, regions=sample.truth.regions)
    return dataclasses.replace(sample, truth=truth)


__all__ = ["has_nuclei", "keep_labels"]
