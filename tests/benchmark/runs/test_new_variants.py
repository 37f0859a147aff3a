"""A run that was stored before its method had a further post-processing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.host.files import read_json, write_json
from benchmark.host.machine import Machine
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.run import execute
from benchmark.runs.trained import load_run
from datamodules.synthetic_sets import Synthetic
from postproc.errors import DataError


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_a_variant_that_a_stored_run_lacks_is_added(tmp_path: Path, protocol: str) -> None:
    Synthetic.write_synthetic(tmp_path / "data" / "synthetic", size=64)
    overrides = Overrides(steps=2, crop=48, batch_size=2)
    spec = RunSpec("dist", "synthetic", protocol=protocol, options={"features": 4}, overrides=overrides)
    machine = Machine(tmp_path / "data", tmp_path / "runs", 1, 0, False, wandb="off")
    first = execute(spec, [Target("synthetic")], machine)
    whole = read_json(first.store.params_file)
    assert list(whole) == ["dist", "dist-p1-1"]
    write_json(first.store.params_file, {"dist": whole["dist"]})
    _, params, _ = load_run(first.store)
    assert list(params) == ["dist"]
    again = execute(spec, [Target("synthetic")], machine)
    assert read_json(first.store.params_file) == whole
    assert {row: found["dice"] for row, found in again.scores.items()} == {
        r: f["dice"] for r, f in first.scores.items()
    }
    write_json(first.store.params_file, {"other": whole["dist"]})
    with pytest.raises(DataError, match=r"params\.json has no parameters for any of dist, dist-p1-1"):
        load_run(first.store)
