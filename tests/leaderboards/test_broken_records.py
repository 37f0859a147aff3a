"""A thousand runs are read in bounded time and memory; a broken one is named, left out, and stops nothing."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import environment, nucbench
from many_runs import copy_runs

from benchmark.registry import TABLES
from leaderboards.build import build_tables
from leaderboards.records import load_scores


def _nested(path: Path) -> None:
    path.write_text('{"a": ' * 100_000 + "1" + "}" * 100_000)


def _changed(**values: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return write


def _without(key: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = json.loads(path.read_text())
        del content[key]
        path.write_text(json.dumps(content))

    return write


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "torn": ("record.json", lambda path: path.write_text(path.read_text()[:300])),
    "empty object": ("record.json", lambda path: path.write_text("{}")),
    "a list": ("record.json", lambda path: path.write_text("[1]")),
    "nested": ("record.json", _nested),
    "binary": ("record.json", lambda path: path.write_bytes(bytes(range(256)))),
    "not UTF-8": ("record.json", lambda path: path.write_bytes(b'{"format": 1, "note": "\xff"}')),
    "seed as text": ("record.json", _changed(seed="zero")),
    "seed of 400 digits": ("record.json", _changed(seed=10**400)),
    "steps of 400 digits": ("record.json", _changed(training={"steps": 10**400})),
    "steps of 5000 digits": ("record.json", lambda path: path.write_text('{"format": 1, "seed": 1' + "0" * 5000 + "}")),
    "minutes not finite": ("record.json", lambda path: path.write_text('{"format": 1, "training": {"minutes": NaN}}')),
    "options as list": ("record.json", _changed(options=[1])),
    "data as text": ("record.json", _changed(data="kumar")),
    "variants as list": ("record.json", _changed(variants=["a"])),
    "no method": ("record.json", _without("method")),
    "control characters": ("record.json", _changed(run_id="a\x1b[31m/b/c\n")),
    "evaluation torn": ("evaluation.json", lambda path: path.write_text(path.read_text()[:40])),
    "evaluation empty": ("evaluation.json", lambda path: path.write_text("{}")),
    "images negative": ("evaluation.json", _changed(images=-1)),
    "images of 400 digits": ("evaluation.json", _changed(images=10**400)),
    "title as number": ("evaluation.json", _changed(title=5)),
    "scores empty": ("scores.csv", lambda path: path.write_text("")),
    "scores binary": ("scores.csv", lambda path: path.write_bytes(bytes(range(256)) * 20)),
    "scores cut": ("scores.csv", lambda path: path.write_text(path.read_text()[:200])),
    "scores of text": ("scores.csv", lambda path: path.write_text(path.read_text().replace("0.", "good"))),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_file_is_named_and_everything_else_is_built(store: Path, tmp_path: Path, damage: str) -> None:
    copy_runs(store, 3, evaluations=2)
    whole = load_scores([store])
    name, spoil = DAMAGES[damage]
    victim = sorted(store.rglob(name))[0]
    spoil(victim)
    problems: list[str] = []
    left = load_scores([store], problems=problems)
    (line,) = problems
    assert str(victim) in line
    assert len(line) < len(str(victim)) + 400
    assert line.isprintable()
    record = name == "record.json"
    assert left["run_id"].nunique() == 3 - record
    assert 0 < len(left) < len(whole)
    again: list[str] = []
    files = build_tables(["segmentation", "dist_search"], [store], tmp_path / "tables", again)
    assert (again, len(files)) == (problems, 4)


def test_tables_report_and_list_say_so_and_exit_with_1(tmp_path: Path) -> None:
    copy_runs(tmp_path / "runs", 3, evaluations=2)
    records = sorted((tmp_path / "runs").rglob("record.json"))
    for path in records:
        shutil.copyfile(path, path.with_name("spec.json"))
    records[0].write_text('{"format": 1, "run_')
    for command in (["leaderboard", "--out", "tables"], ["report", "--out", "report"], ["list", "runs"]):
        done = nucbench(*command, "--runs", "runs", folder=tmp_path, status=1)
        assert "left out: " in done.stderr
        assert str(records[0].relative_to(tmp_path)) in done.stderr
        assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "tables").glob("*.md"))) == len(TABLES)
    assert (tmp_path / "report" / "index.html").is_file()


def test_a_broken_search_is_named(store: Path, tmp_path: Path) -> None:
    (store / "search").mkdir()
    (store / "search" / "x.json").write_text('{"method": "dist", "settings": [], "params": {}}')
    problems: list[str] = []
    build_tables(["dist_search"], [store], tmp_path / "tables", problems)
    assert len(problems) == 1
    assert "x.json" in problems[0]
    assert "settings" in problems[0]


@pytest.mark.slow
def test_a_thousand_runs(tmp_path: Path) -> None:
    copy_runs(tmp_path / "scores", 1000)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", _MEASURED, "leaderboard", "--store", "scores", "--runs", "none", "--out", "tables"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu < 30
    assert int(done.stderr.split()[-1]) < 1024 * 1024  # kB


_MEASURED = """
import re, sys
from pathlib import Path
from benchmark.commands.cli import main
status = main()
# the process' own peak; getrusage counts what the process had that it was started from
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
sys.exit(status)
"""
