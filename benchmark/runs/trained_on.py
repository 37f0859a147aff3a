"""Training sets of weights and predictions that were made elsewhere: ``--trained-on``."""

from __future__ import annotations

import re

from benchmark.registry import DATASETS
from benchmark.results.spec import Target
from postproc.errors import ConfigError, short, unknown_name

NAME = r"[A-Za-z0-9][\w-]{0,99}"


def training_set(text: str) -> Target:
    """Read ``NAME`` or ``NAME.SPLIT`` of a dataset that is registered here or not; NAME is also the name of a folder.

    Raises:
        ConfigError: If the text is not such a name, differs from a registered one by its case, or names a split that a
            registered dataset does not have.
    """
    dataset, _, split = text.partition(".")
    if dataset in DATASETS:
        target = Target.parse(text, "train")
        target.check()
        return target
    if dataset.lower() in DATASETS:  # a folder of another case could be the same folder
        raise unknown_name("dataset", dataset, DATASETS)
    if not re.fullmatch(rf"{NAME}(\.{NAME})?", text):
        raise ConfigError(
            f"--trained-on {short(text)} cannot name a dataset: use up to 100 letters, digits, '_' and '-', for "
            "example pannuke"
        )
    return Target(dataset, split or "train")


def training_sets(text: str) -> dict[str, Target]:
    """Read one or more sets, joined by ``+``, as for `training_set`: each name as given, and its set."""
    return {name: training_set(name) for name in text.split("+")}


__all__ = ["training_set", "training_sets"]
