"""Training in two processes that share the work, as on two GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.synthetic_sets import Synthetic

SCRIPT = """
import sys
from pathlib import Path
from benchmark.host.machine import Machine
from benchmark.runs.run import open_run, train_method
from benchmark.results.spec import Overrides, RunSpec

folder = Path(sys.argv[1])
overrides = Overrides(crop=64, batch_size=2, steps=6, augment="flips", crops_per_image=2)
spec = RunSpec("dist", "synthetic", protocol="strict", options={"features": 4}, overrides=overrides)
machine = Machine(folder / "data", folder / "runs", devices=2, workers=0, progress=False)
train_method(open_run(spec, machine))
"""


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path: Path) -> None:
    Synthetic.write_synthetic(tmp_path / "data" / "synthetic", size=96)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs/dist/synthetic").iterdir()
    result = json.loads((run / "checkpoints/done.json").read_text())
    assert result["steps"] == 6
    assert result["epochs"] == 2  # 12 items an epoch, 2 processes x 2 items a step: 3 steps
    assert (run / "checkpoints/final.pt").exists()
