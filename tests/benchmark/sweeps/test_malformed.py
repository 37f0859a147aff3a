"""Files that people write, wrong in many ways: one message of at most two lines, before anything starts."""

# ruff: noqa: E501  # a case a line reads better
from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment

from benchmark.commands.cli import main
from datamodules.reading.points_table import read_points_description
from postproc.errors import DataError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
)
SWEEP = "methods: [dist]\ndatasets: [kumar]\n"
SEARCH = "method: dist\ndataset: kumar\n"
SPACE = "space: {lr: [0.1, 0.01]}\n"

ANYTHING = (
    "", "5", "text", "- a", "[", "[" * 3000, "{" * 3000, "a: b: c", "\tx: 1", "a: 1\na: 2", BOMB, "&a [*a]", "*a",
    "!!python/object/apply:os.system [ls]", "!!binary aaaa", "? [1]\n: 2", "{}", "x" * 2_000_000, "\x00", "a: \"\x1b[31m\"",
    "- " * 2000,
)  # fmt: skip
"""Wrong whatever the file is for."""

SWEEPS = (
    "methods: []\ndatasets: [kumar]\n", "methods: dist\ndatasets: [kumar]\n", "methods: [dist]\n",
    "methods: [{a: 1}]\ndatasets: [kumar]\n", "methods: [nosuch]\ndatasets: [kumar]\n", "methods: [1]\ndatasets: [kumar]\n",
    "methods: [dist]\ndatasets: [nosuch]\n", "methods: [dist]\ndatasets: {kumar: 1}\n", f"methods: [{'x' * 100_000}]\ndatasets: [kumar]\n",
    *(SWEEP + line for line in (
        "cases: 5", "cases: [5]", "cases: [{seeds: 5}]", "cases: [{cases: []}]", "cases: [{methods: [nosuch]}]",
        "cases: [{overrides: {steps: 2.5}}]", "seeds: [a]", "seeds: [1.5]", "seeds: [-1]", "seeds: [4294967296]",
        "seeds: [true]", "seeds: 5", f"seeds: [{'9' * 400}]", f"seeds: [{'9' * 5000}]", "seeds: [1e3]", "seeds: [null]",
        "options: {dist: null}", "options: [a]", "options: {dist: {featurs: 8}}", "options: {dist: {features: many}}",
        "options: {nosuch: {a: 1}}", "options: {dist: {features: [1]}}", "options: {dist: {features: {}}}",
        "options: {1: {}}", "overrides: {steps: 2.5}", "overrides: {steps: -1}", "overrides: {lr: fast}",
        "overrides: {lr: .inf}", "overrides: {lr: .nan}", "overrides: {schedule: nosuch}", "overrides: {augment: nosuch}",
        "overrides: {stepz: 5}", "overrides: [5]", "overrides: 5", "overrides: {crop: true}", "overrides: {monitor: pq}",
        "overrides: {steps: 100000000000000}", "method_overrides: {fiji: {steps: 5}}", "method_overrides: {dist: 5}",
        "precision: 16", "precision: 64-true", "protocol: [paper]", "protocol: nosuch", "train_split: nosuch",
        "train_split: 5", "train_split: 'group:NOBODY'", "evaluate: [kumar.nosuch]", "evaluate: [nosuch.test]",
        "evaluate: kumar", "evaluate: [5]", "also: [nosuch]", "also: [tnbc.nosuch]", "validate: 5", "validate: tnbc.all",
        "folds: maybe", "folds: 1", "paper: {dist: 5}", "paper: {dist: {steps: 5}}", "paper: {dist: {steps: a, source: b}}",
        "nosuch: 1", "seed: [0]", "methods: [fiji]",
    )),
)  # fmt: skip

SEARCHES = (
    "method: dist\ndataset: kumar\n", "dataset: kumar\n" + SPACE, "method: nosuch\ndataset: kumar\n" + SPACE,
    "method: dist\ndataset: nosuch\n" + SPACE, "method: [dist]\ndataset: kumar\n" + SPACE,
    *(SEARCH + line for line in (
        "space: 5", "space: [lr]", "space: {lr: 5}", "space: {lr: []}", "space: {nosuch: [1]}", "space: {lr: [a]}",
        "space: {lr: [[1]]}", "space: {lr: [1, 1]}", "space: {options.nosuch: [1]}", "space: {options.features: [a]}",
        "space: {lr: [-1.0]}", "space: {steps: [1.5]}", "space: {1: [2]}",
    )),
    *(SEARCH + SPACE + line for line in (
        "trials: abc", "trials: -5", "trials: 0", "trials: 2.5", "trials: true", "trials: 1e3", "seed: -1", "seed: x",
        "variant: nosuch", "validate: nosuch", "validate: kumar.nosuch", "precision: 16", "options: 5",
        "options: {featurs: 1}", "overrides: {lr: fast}", "overrides: 5", "trails: 5",
    )),
)  # fmt: skip

DATASETS = (
    "types: []\n", "radius: 5\n", "types: 5\nradius: 5\n", "types: [1]\nradius: 5\n", "types: [a, A]\nradius: 5\n",
    "types: ['']\nradius: 5\n", "types: []\nradius: 0\n", "types: []\nradius: -1\n", "types: []\nradius: wide\n",
    "types: []\nradius: .inf\n", "types: []\nradius: true\n", "types: []\nradius: 5\nmpp: fine\n",
    "types: []\nradius: 5\nmagnification: [20]\n", "types: []\nradius: 5\ncases: [a]\n",
    "types: []\nradius: 5\ncases: {a: [1]}\n", "types: []\nradius: 5\nmagnifcation: 20\n",
    "types: []\nradius: 5\nradius: 6\n", 'types: ["a\\nb"]\nradius: 5\n', 'types: ["\\e[31m"]\nradius: 5\n',
)  # fmt: skip


def short(text: str) -> str:
    return repr(text[:60])


def check(message: str, path: Path) -> None:
    lines = message.strip().splitlines()
    assert 1 <= len(lines) <= 2, message
    assert path.name in message
    assert len(message) < 1500
    assert "Traceback" not in message
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("command", "text"),
    [("sweep", text) for text in (*ANYTHING, *SWEEPS)] + [("search", text) for text in (*ANYTHING, *SEARCHES)],
    ids=lambda value: short(value),
)
def test_sweeps_and_searches(tmp_path: Path, command: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    status = main([command, str(file), "--dry-run", "--runs", str(tmp_path / "runs"), "--data", str(tmp_path)])
    message = capsys.readouterr().err
    assert status == 2, message
    check(message, file)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", [*ANYTHING, *DATASETS], ids=short)
def test_descriptions_of_datasets(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dataset.yaml"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_points_description(file)
    check(str(caught.value), file)


def test_there_are_many() -> None:
    assert len(set(ANYTHING)) * 3 + len(set(SWEEPS)) + len(set(SEARCHES)) + len(set(DATASETS)) >= 88


@pytest.mark.parametrize(
    ("command", "text"),
    [("sweep", BOMB), ("search", SEARCH + SPACE + "trials: abc\n"), ("sweep", SWEEP + "seeds: [1.5]\n")],
    ids=lambda value: short(value),
)
@pytest.mark.slow
def test_the_command_itself(tmp_path: Path, command: str, text: str) -> None:
    (tmp_path / "file.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.commands.cli", command, "file.yaml", "--dry-run"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    check(done.stderr, tmp_path / "file.yaml")


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(SWEEP + "overrides: {lr: 1e-3, steps: 010}\n")
    arguments = ["sweep", str(tmp_path / "s.yaml"), "--dry-run", "--runs", str(tmp_path), "--data", str(tmp_path)]
    assert main(arguments) == 1  # the dataset is not there
    shown = capsys.readouterr().out
    assert "10 steps" in shown
    assert f"missing: {tmp_path / 'kumar'}; run nucbench prepare kumar" in shown


@pytest.mark.slow
def test_a_space_of_ten_million_combinations_is_never_listed(tmp_path: Path) -> None:
    settings = ("lr", "batch_size", "crop", "steps", "crops_per_image", "max_minutes", "options.features")
    space = "".join(f"  {name}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" for name in settings)
    (tmp_path / "s.yaml").write_text(f"{SEARCH}space:\n{space}")
    # the process' own peak; getrusage also counts that of the process that it was forked from
    code = (
        "import sys; from benchmark.commands.cli import main; s = main(); status = open('/proc/self/status').read(); "
    )
    code += "print(status.split('VmHWM:')[1].split()[0]); sys.exit(s)"
    done = subprocess.run(
        [sys.executable, "-c", code, "search", "s.yaml", "--dry-run"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (120, 120)),
    )  # fmt: skip
    assert "20 of 10000000 combinations" in done.stdout
    assert int(done.stdout.split()[-1]) < 1_500_000  # kB, most of which is torch
