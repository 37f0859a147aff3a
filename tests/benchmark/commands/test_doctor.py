"""`nucbench doctor` as a command line: what is found in good and in broken installations."""

from __future__ import annotations

import json
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from command_line import nucbench
from packaging.requirements import Requirement

from benchmark.commands.doctor_extras import MEANING, extras, fault
from benchmark.host.cores import usable_cores
from benchmark.host.precision import resolve
from benchmark.host.resources import instruction_sets, memory, unwritable
from benchmark.results.model_folder import shipped_models
from datamodules.synthetic_sets import Synthetic

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.slow
def test_a_good_installation(tmp_path: Path) -> None:
    Synthetic.write_synthetic(tmp_path / "data/synthetic", size=64)
    variables = {"HOME": str(tmp_path), "WANDB_API_KEY": KEY}
    text = nucbench("doctor", "--json", folder=tmp_path, **variables).stdout
    found = json.loads(text)
    assert found["broken"] == []
    assert found["versions"]["nucbench"] == version("nucbench")
    assert found["processor"]["cores"]["usable"] == usable_cores()
    assert found["gpu"]["precision auto"] == resolve("auto")
    assert found["datasets"]["synthetic"]["images"] == {"train": 8, "test": 4}
    assert set(found["models"]) == set(shipped_models())
    drawn, counted = found["self-test"]["predict"]["drawn"], found["self-test"]["predict"]["found"]
    assert 0.5 * drawn <= counted <= 1.5 * drawn
    assert found["wandb"]["login"]["logged_in"] is True
    assert KEY not in text
    assert not (tmp_path / "runs").exists(), "nothing is changed"


def test_a_broken_installation(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    Synthetic.write_synthetic(tmp_path / "data/kumar", size=64)  # the layout of another dataset
    before = "import sys; sys.modules['timm'] = None"
    done = nucbench("doctor", folder=tmp_path, status=1, before=before, HOME=str(tmp_path))
    for expected in (
        f"runs: broken: runs, cannot be written ({tmp_path / 'runs'} is a file)",
        "remedy: give another folder: --runs or NUCBENCH_RUNS",
        "not logged in",
        "kumar: broken: ",
        "predict: broken: ModuleNotFoundError: import of timm halted",
    ):
        assert expected in done.stdout
    assert "nothing is broken" not in done.stdout


def test_every_extra_says_what_it_enables() -> None:
    assert extras() == sorted(metadata("nucbench").get_all("Provides-Extra") or [])
    assert set(extras()) == set(MEANING)


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("packaging", ""),
        ("packaging>=1", ""),
        ("packaging>=1e9", "packaging is "),
        ("no-such-package>=1", "no-such-package is missing"),
    ],
)
def test_requirements(requirement: str, expected: str) -> None:
    requirement = requirement.replace("1e9", "1000000000")
    found = fault(Requirement(requirement))
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_what_linux_says_of_processor_and_memory(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f amx_bf16\n\nprocessor : 1\n")
    assert instruction_sets(file) == {
        "AMX": True, "AVX-512 bf16": False, "AVX-512": True, "AVX2": True, "NEON": False,
    }  # fmt: skip
    assert instruction_sets(tmp_path / "none") == {}
    file.write_text("MemTotal:       4194304 kB\nMemAvailable:   1048576 kB\n")
    assert memory(file) == (4.0, 1.0)
    file.write_text("nonsense")
    assert memory(file) is None


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "new/folder") == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "is a file" in unwritable(tmp_path / "file/folder")
    assert unwritable(Path("/proc/nucbench")) != ""
