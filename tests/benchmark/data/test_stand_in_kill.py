"""A process that is killed while it writes a synthetic stand-in."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from command_line import nucbench, start, wait_until

from benchmark.data.presence import presence
from datamodules.kumar import Kumar


@pytest.mark.slow
def test_a_killed_stand_in_leaves_no_part_of_a_dataset(tmp_path: Path) -> None:
    words = ("prepare", "kumar", "--synthetic", "--images", "30", "--data", "data", "--no-progress")
    process = start(*words, "--size", "700", folder=tmp_path)
    wait_until(lambda: len(list(tmp_path.rglob("*.tif"))) > 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert presence(Kumar, tmp_path / "data/kumar").state == "not found"
    nucbench(*words, "--size", "64", folder=tmp_path)
    found = presence(Kumar, tmp_path / "data/kumar")
    assert (found.state, found.synthetic) == ("found", True)
