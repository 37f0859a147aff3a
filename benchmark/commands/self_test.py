"""Self-test of an installation: a shipped model on a small synthetic image."""

from __future__ import annotations

import time

import numpy as np

from benchmark.commands.common import DEFAULT
from benchmark.results.model_folder import shipped_models
from benchmark.runs.trained import load_trained
from datamodules.synthetic.images import generate

SIDE = 192
MAGNIFICATION = 40.0


def find_nuclei() -> dict[str, float]:
    """Find the nuclei of a synthetic image by the post-processing of the model.

    Returns:
        Number of nuclei ``drawn`` and ``found``, and the seconds of the prediction and of loading the model.
    """
    image, truth = generate((SIDE, SIDE), np.random.default_rng(0))
    began = time.perf_counter()
    trained = load_trained(shipped_models()[DEFAULT])
    loaded = time.perf_counter()
    found = trained.segment(image, MAGNIFICATION)
    seconds, loading = time.perf_counter() - loaded, loaded - began
    return {
        "drawn": truth.count,
        "found": found.count,
        "seconds": round(seconds, 2),
        "loading_seconds": round(loading, 2),
    }


__all__ = ["find_nuclei"]
