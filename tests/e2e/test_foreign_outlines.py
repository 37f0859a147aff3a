"""Outlines of other programs as a row of the tables, by the real command line."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import nucbench

from benchmark.results.pictures import geojson
from datamodules.synthetic_sets import Synthetic


def test_geojson_is_scored_with_its_types(tmp_path: Path) -> None:
    nucbench("prepare", "synthetic", "--synthetic", "--size", "96", folder=tmp_path)
    data = Synthetic(tmp_path / "data/synthetic")
    foreign = ["Tumour", *data.card.types[1:]]
    (tmp_path / "mine").mkdir()
    for sample in data.samples("test"):
        path = tmp_path / "mine" / f"{sample.image_id}.geojson"
        path.write_text(json.dumps(geojson(sample.truth, tuple(foreign))))
    words = ["evaluate", "--predictions", "mine", "--dataset", "synthetic", "--method", "Mine", "--no-progress"]
    refused = nucbench(*words, folder=tmp_path, status=1)
    assert "type 'Tumour' is none of" in refused.stderr
    scored = nucbench(*words, "--types", f"tumour={data.card.types[0]}", folder=tmp_path)
    (evaluation,) = (tmp_path / "runs").rglob("scores.csv")
    head, *rows = [line.split(",") for line in evaluation.read_text().splitlines()]
    assert len(rows) == 4
    for name in ("aji", "pq"):
        assert {row[head.index(name)] for row in rows} == {"1.0"}
    assert "1.000" in scored.stdout
    wrong = nucbench(*words, "--types", "tumour=nothing", folder=tmp_path, status=2)
    assert "unknown type in --types tumour=nothing" in wrong.stderr


def test_pickles_are_refused_with_the_remedy(tmp_path: Path) -> None:
    nucbench("prepare", "synthetic", "--synthetic", "--size", "96", folder=tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/test_1.dat").write_bytes(b"\x80\x04}.")
    words = ["evaluate", "--predictions", "mine", "--dataset", "synthetic", "--method", "Mine"]
    assert "json.dump(joblib.load(" in nucbench(*words, folder=tmp_path, status=1).stderr
