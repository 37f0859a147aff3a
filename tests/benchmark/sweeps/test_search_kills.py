"""A search in real processes: killed, started twice, with a torn journal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment, nucbench, wait_until

from benchmark.registry import dataset_class

SPEC = """
method: dist
dataset: synthetic
space: {lr: [1e-3, 1e-4]}
trials: 2
options: {features: 2}
overrides: {steps: 20, crop: 32, batch_size: 2}
"""


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmark.commands.cli", "search", "s.yaml", "--wandb", "off", "--no-progress"]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_kills_a_second_command_and_a_torn_journal_lose_nothing(tmp_path: Path) -> None:
    dataset_class("synthetic").write_synthetic(tmp_path / "data" / "synthetic", images=6, size=48)
    (tmp_path / "s.yaml").write_text(SPEC)
    for number, how in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL)):
        with start(tmp_path) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            while not line.startswith("trial "):
                assert line, "ended before a trial"
                line = process.stdout.readline()
            if not number:
                process.send_signal(signal.SIGSTOP)  # it must not end before the second command begins
                second = nucbench("search", "s.yaml", "--wandb", "off", folder=tmp_path, status=2)
                assert "another process is working on the search of" in second.stderr
                nucbench("search", "s.yaml", "--dry-run", folder=tmp_path)
                assert process.poll() is None
                process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.stdout.read()
    (journal,) = (tmp_path / "runs" / "search").glob("*.journal")
    with journal.open("a") as file:
        file.write('{"op_code": 5, "worker')
    done = nucbench("search", "s.yaml", "--wandb", "off", "--no-progress", folder=tmp_path)
    assert "failed" not in done.stdout
    (selected,) = (tmp_path / "runs" / "search").glob("*.json")
    assert json.loads(selected.read_text())["trials"] == 2
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*/*/record.json")}
    assert len(records) == 2
    nucbench("search", "s.yaml", "--wandb", "off", folder=tmp_path)
    assert all(path.stat().st_mtime_ns == time for path, time in records.items())
    wait_until(lambda: not list((tmp_path / "runs").rglob("*.part")), seconds=5)
