"""Runs that learn types of nuclei, and those that do not, of the same methods."""

from __future__ import annotations

import pandas as pd

from leaderboards.records import split_options


def learns_types(scores: pd.DataFrame) -> pd.Series:
    """Tell for each line whether its run and variant predicts types that are scored.

    Args:
        scores: Per-image scores as of `leaderboards.records.load_scores`.
    """
    columns = [column for column in scores.columns if column == "F_d" or column.startswith("F_c_")]
    typed = scores[columns].notna().any(axis=1) & (scores["types"] != "")
    return typed.groupby([scores["run_id"], scores["variant"]]).transform("any").astype(bool)


def with_classify(scores: pd.DataFrame, typed: str) -> pd.DataFrame:
    """Say in the options what a table needs to know of types, in place of the option ``classify``.

    Whether a run learns types follows from the option, or without it from the method's default and the data.

    Args:
        scores: Per-image scores.
        typed: Option to name where types are learnt; empty = none.
    """

    def rewrite(text: str, learns: bool) -> str:
        kept = [f"{key}={value}" for key, value in split_options(text).items() if key != "classify"]
        return ", ".join([*kept, typed] if learns and typed else kept)

    learns = learns_types(scores)
    return scores.assign(options=[rewrite(*pair) for pair in zip(scores["options"], learns, strict=True)])


__all__ = ["learns_types", "with_classify"]
