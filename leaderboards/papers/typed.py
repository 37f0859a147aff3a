"""Distinguish runs that learn nucleus types from those of the same method that do not."""

from __future__ import annotations

import pandas as pd

from leaderboards.options import describe, split_options


def learns_types(scores: pd.DataFrame) -> pd.Series:
    """Return for each line whether its run and variant predicts types that are scored.

    Args:
        scores: Per-image scores as of `leaderboards.records.load_scores`.
    """
    columns = [column for column in scores.columns if column == "F_d" or column.startswith("F_c_")]
    typed = scores[columns].notna().any(axis=1) & (scores["types"] != "")
    return typed.groupby([scores["run_id"], scores["variant"]]).transform("any").astype(bool)


def without_classify(scores: pd.DataFrame) -> pd.DataFrame:
    """Remove the option ``classify`` from the options.

    Whether a run learns types follows from this option, or by default from the method and the data; tables
    distinguish such runs by `learns_types`.

    Args:
        scores: Per-image scores.
    """

    def rewrite(text: str) -> str:
        return describe({key: value for key, value in split_options(text).items() if key != "classify"})

    rewritten = {text: rewrite(text) for text in scores["options"].unique()}
    return scores.assign(options=[rewritten[text] for text in scores["options"]])


__all__ = ["learns_types", "without_classify"]
