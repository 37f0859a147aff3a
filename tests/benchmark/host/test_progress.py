"""Progress of long work: lines with the time left where there is no terminal."""

from __future__ import annotations

import re

import pytest

from benchmark.host.progress import countdown


def test_a_line_at_each_tenth_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with countdown("a.svs, tiles") as moved:
        for done in range(40, 201):  # 40 were finished before an interruption
            moved(done, 200)
    lines = capsys.readouterr().err.splitlines()
    assert all(re.fullmatch(r"a\.svs, tiles: \d+ of 200, about \d+ (s|min) left", line) for line in lines)
    assert [int(line.split()[2]) for line in lines] == [41, 60, 80, 100, 120, 140, 160, 180, 200]
    assert lines[-1].endswith("about 0 s left")


def test_nothing_to_do_and_nothing_wanted_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with countdown("a") as moved:
        moved(0, 0)
    with countdown("a", show=False) as moved:
        moved(1, 2)
    assert capsys.readouterr().err == ""
