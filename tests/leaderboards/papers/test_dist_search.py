"""What searches selected beside table III of the DIST paper."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmark.registry import method_class
from benchmark.sweeps.search import SearchSpec
from leaderboards.build import build_tables
from leaderboards.literature import load_facts
from leaderboards.papers.dist_search import FITTED, PLACES, SEARCHED, DistSearch
from models.base.method import Task
from postproc.errors import DataError

FILES = {"dist": "dist", "unet-dist": "unet-dist", "fcn8": "fcn", "mask-rcnn": "mask-rcnn"}

FOUND = {
    "method": "unet-dist",
    "dataset": "kumar",
    "trials": 3,
    "combinations": 75,
    "score": 0.51,
    "settings": {"lr": 0.001, "options.features": 16, "options.weight_decay": 5e-5},
    "params": {"unet-dist": {"threshold": 0.4}, "unet-dist-pp": {"p1": 9.0, "p2": 0.5}},
    "run": "unet-dist/kumar/strict-s0-0",
}


def test_selected_values_stand_beside_the_published_ones(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(FOUND))
    table = DistSearch(tmp_path)
    frame = table.build(pd.DataFrame(), load_facts())
    lines = frame[frame["registry"] == "unet-dist"].set_index("parameter")
    assert lines["published"].to_dict() == {"lr": 1e-4, "weight_decay": 5e-7, "features": 32, "p1": 11, "p2": 0.5}
    assert lines["ours"].to_dict() == {"lr": 1e-3, "weight_decay": 5e-5, "features": 16, "p1": 9, "p2": 0.5}
    assert set(lines["run"]) == {"unet-dist/kumar/strict-s0-0"}
    assert frame.loc[frame["registry"] != "unet-dist", "ours"].isna().all()
    assert len(frame) == 18
    assert (
        r"| U-Net (cross-entropy) + PP | p1 | probability: 6 to 12; distance: 0 to 2 | 11 | 9 | 3 of 75 | 0.510 |"
        in (table.markdown(frame))
    )


@pytest.mark.parametrize(("method", "variant"), SEARCHED.values())
def test_what_is_searched_exists(method: str, variant: str) -> None:
    plan = SearchSpec.load(Path(f"{FILES[method]}-search.yaml"))
    kind = method_class(method)
    assert plan.method == method
    assert plan.variant in ("", variant)
    assert plan.variant or kind.card.variants[0].key == variant
    frame = DistSearch(Path("nowhere")).build(pd.DataFrame(), load_facts())
    parameters = set(frame.loc[frame["registry"] == method, "parameter"]) - {"dmc_training"}
    weights = {"weights": "none"} if method in ("fcn8", "mask-rcnn") else {}
    codec = kind(Task(), **{**kind.small, **weights}).codecs[variant]
    for parameter in parameters:
        place = PLACES.get(parameter)
        assert place in plan.space if place else hasattr(codec.defaults(), FITTED.get(parameter, parameter))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json names no method"):
        DistSearch(tmp_path).build(pd.DataFrame(), load_facts())


def test_searches_come_from_the_folders_that_are_asked_for(tmp_path: Path) -> None:
    for folder, rate in (("store", 0.01), ("runs", 0.001)):  # own runs stand in for what was published of them
        (tmp_path / folder / "search").mkdir(parents=True)
        found = {**FOUND, "settings": FOUND["settings"] | {"lr": rate}}  # type: ignore[operator]
        (tmp_path / folder / "search" / "unet-dist-kumar-0.json").write_text(json.dumps(found))
    for folders, rate in ((("store",), 0.01), (("store", "runs"), 0.001)):
        build_tables(["dist_search"], [tmp_path / folder for folder in folders], tmp_path / "tables")
        lines = pd.read_csv(tmp_path / "tables" / "dist_search.csv")
        lines = lines[(lines["registry"] == "unet-dist") & (lines["parameter"] == "lr")]
        assert lines["ours"].tolist() == [rate]
