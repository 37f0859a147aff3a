"""What is printed after a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.host.files import write_json
from benchmark.results.store import RunStore
from benchmark.runs.result import Result, print_result


@pytest.mark.parametrize(
    ("source", "trained_on_stand_ins", "scored_on_stand_ins", "commands"),
    [
        (None, False, False, ["predict", "publish"]),
        ("predictions", False, False, ["publish"]),
        (None, True, False, ["predict"]),
        (None, False, True, ["predict"]),
        ("predictions", False, True, []),
    ],
)
def test_only_commands_that_work_are_suggested(
    source: str | None,
    trained_on_stand_ins: bool,
    scored_on_stand_ins: bool,
    commands: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = RunStore(tmp_path, "dist/kumar/paper-s0-00000000")
    record = {"data": {"synthetic": trained_on_stand_ins}} | ({} if source is None else {"source": source})
    write_json(store.record_file, record)
    write_json(store.path / "evaluations/kumar.test/dist/evaluation.json", {"synthetic": scored_on_stand_ins})
    print_result(Result(store, {}))
    shown = capsys.readouterr().out
    assert [name for name in ("predict", "publish") if f"nucbench {name} {store.path}" in shown] == commands
