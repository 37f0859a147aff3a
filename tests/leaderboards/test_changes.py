"""An option that changes the method never fills the row of the published one."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark.options import option_defaults
from benchmark.registry import METHODS, TABLES, method_class, table_class
from benchmark.results.spec import Overrides
from leaderboards.base import Comparison
from leaderboards.build import SCORES
from leaderboards.changes import EVERY, Change, Changes, changes, load_changes, row_titles
from leaderboards.literature import load_facts
from leaderboards.options import describe
from leaderboards.records import load_scores
from postproc.errors import DataError


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_option_is_declared(method: str) -> None:
    kind = method_class(method)
    hints = typing.get_type_hints(kind.__init__)
    wrong = []
    for option, default in option_defaults(kind).items():
        lines = [line for line in changes().lines if (line.method, line.option) == (method, option)]
        if not lines:
            wrong.append(f"{option}: say in leaderboards/published/options.csv what it does to the rows of {method}")
        elif lines[0].effect == "row":
            written = describe({option: default}).partition("=")[2]
            wrong += [f"{option}: default {lines[0].default}, not {written}"] if lines[0].default != written else []
            wrong += [f"{option}={value}: no label" for value in others(hints[option], default) - named(lines)]
    assert wrong == []


def others(hint: Any, default: Any) -> set[str]:
    """Return the values of an option besides its default, where they can be listed."""
    listed = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    choices = (True, False) if hint is bool else listed
    return {value if isinstance(value, str) else json.dumps(value) for value in choices if value != default}


def named(lines: list[Change]) -> set[str]:
    values = {line.value for line in lines}
    return values | ({"fast", "otsu", "cross-entropy"} if EVERY in values else set())


def test_every_setting_of_the_recipe_is_declared() -> None:
    declared = {line.option for line in changes().lines if line.method == EVERY}
    assert declared == {field.name for field in dataclasses.fields(Overrides)} | {"images"}


def test_nothing_else_is_declared() -> None:
    known = {(method, option) for method in METHODS for option in option_defaults(method_class(method))}
    assert {(line.method, line.option) for line in changes().lines if line.method != EVERY} - known == set()


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({}, "HoVer-Net"),
        ({"features": 8, "weights": "none", "lr": 0.1, "loss_terms": "proposed"}, "HoVer-Net"),
        ({"loss_terms": "standard"}, "HoVer-Net (standard loss terms)"),
        ({"loss_terms": "standard", "mode": "fast"}, "HoVer-Net (standard loss terms, fast mode)"),
        ({"label_share": 0.05}, "HoVer-Net (0.05 of the labels)"),
        ({"images": "synthetic"}, "HoVer-Net (synthetic stand-ins)"),
        ({"some_day": 1}, "HoVer-Net (some_day=1)"),
    ],
)
def test_titles(options: dict[str, Any], title: str) -> None:
    text = ", ".join(f"{key}={value}" for key, value in options.items())
    assert changes().title("HoVer-Net", "hovernet", text) == title


def test_a_name_with_brackets_keeps_one_pair() -> None:
    title = changes().title("HoVer-Net (Sobel, threshold)", "hovernet", "mode=fast")
    assert title == "HoVer-Net (Sobel, threshold; fast mode)"
    assert changes().title("A", "hovernet", "mode=fast", leave_out=("mode",)) == "A"


@pytest.mark.parametrize(
    "lines",
    [
        [Change("a", "b", "unknown", "", "", "")],
        [Change("a", "b", "row", "true", "false", "")],
        [Change("a", "b", "size", "", "", "small")],
        [Change("a", "b", "size", "", "", ""), Change("a", "b", "training", "", "", "")],
        [Change("a", "b", "row", "x", "y", "z"), Change("a", "b", "row", "x", "y", "w")],
    ],
)
def test_declarations_that_say_nothing_clear_are_errors(lines: list[Change]) -> None:
    with pytest.raises(DataError, match="the option table"):
        Changes(lines)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "options.csv"
    path.write_text("method,option\n")
    with pytest.raises(DataError, match=r"options\.csv has no column 'effect'"):
        load_changes(path)


OWN = {
    ("kinet", "roi"): {"ki67"},
    ("kinet", "stagewise"): {"ki67"},
    ("hovernet", "loss_terms"): {"loss_terms"},
    ("hovernet", "type_branch"): {"ablation_branches"},
    ("dist", "target"): {"distance_targets"},
    **{("self-supervised", option): {"self_supervised"} for option in ("smooth", "equivariance", "sparsity")},
}
"""Options that a published table has rows for."""


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    return load_scores([SCORES])


def beside(scores: pd.DataFrame, but: Collection[str] = ()) -> set[str]:
    """Return the tables in which any of the scores stand in one row with published figures."""
    facts, found = load_facts(), set()
    for name in sorted(set(TABLES) - set(but)):
        table = table_class(name)()
        if isinstance(table, Comparison) and len(table.build(scores, facts).dropna(subset=["ours", "published"])):
            found.add(name)
    return found


@pytest.mark.parametrize("line", [line for line in changes().lines if line.effect == "row"], ids=str)
def test_a_changed_method_stands_beside_no_published_figure(line: Change, stored: pd.DataFrame) -> None:
    methods = ["dist", "kinet", "qupath"] if line.method == EVERY else [line.method]
    chosen = stored[stored["method"].isin(methods)]
    if not len(chosen):
        pytest.skip(f"nobody has run {line.method}")
    changed = chosen.assign(options=f"{line.option}={'0.5' if line.value == EVERY else line.value}")
    changed = changed.assign(title=row_titles(changed["base"], changed))
    assert beside(changed, OWN.get((line.method, line.option), ())) == set()


@pytest.mark.parametrize("method", ["hovernet", "dist", "cianet", "kinet"])
def test_the_method_as_published_does(method: str, stored: pd.DataFrame) -> None:
    chosen = stored[stored["method"] == method]
    assert beside(chosen.assign(options="lr=0.1", title=chosen["base"]))
