"""Runs with types and without, of one method, never share a row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from leaderboards.papers.typed import learns_types, without_classify


def scores() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run_id": ["typed", "typed", "plain", "untyped-data"],
            "variant": ["a", "a", "a", "a"],
            "types": ["x|y", "x|y", "x|y", ""],
            "options": ["lr=1, classify=True", "lr=1, classify=True", "classify=False", ""],
            "F_d": [np.nan, 0.5, np.nan, 0.4],
            "F_c_1": [np.nan, np.nan, np.nan, np.nan],
        }
    )


def test_a_run_learns_types_if_any_of_its_images_is_scored_for_them() -> None:
    assert list(learns_types(scores())) == [True, True, False, False]


def test_the_option_that_is_told_by_the_scores_is_left_out() -> None:
    assert list(without_classify(scores())["options"]) == ["lr=1", "lr=1", "", ""]
