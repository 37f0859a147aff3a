from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark.registry import TABLES
from leaderboards.build import build_tables, write_atomic
from postproc.errors import ConfigError, DataError

HEAVY = ("torch", "torchvision", "pytorch_lightning", "lightning", "numba", "matplotlib")


def fill(store: Path, made: Any, seeds: tuple[int, ...] = (0, 1)) -> None:
    for seed in seeds:
        run = made.run(store, f"paper-s{seed}-aaaaaaaa")
        made.evaluation(run, "kumar.test", made.scores(["a", "b"], pq=[0.25, 0.5 + seed / 4]))
        made.evaluation(run, "cpm15.all", made.scores(["a", "b", "c"]))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_table_is_written_twice(store: Path, made: Any, tmp_path: Path) -> None:
    fill(store, made)
    written = build_tables((), [store], tmp_path / "out")
    assert {path.name for path in written} == {f"{name}{end}" for name in TABLES for end in (".csv", ".md")}
    assert set(contents(tmp_path / "out")) == {path.name for path in written}  # no temporary file stays
    frame = pd.read_csv(tmp_path / "out/segmentation.csv")
    line = frame[(frame["method"] == "U-Net") & (frame["dataset"] == "Kumar") & (frame["metric"] == "PQ")].iloc[0]
    assert line[["published", "ours", "seeds", "images", "expected"]].tolist() == [0.478, 0.4375, 2, 2, 14]
    text = (tmp_path / "out/generalisation.md").read_text(encoding="utf-8")
    assert "| 3 of 79 | 2 |" in text


def test_bytes_do_not_depend_on_the_order_of_storing(store: Path, made: Any, tmp_path: Path) -> None:
    fill(store, made, (0, 1))
    other = tmp_path / "other"
    other.mkdir()
    fill(other, made, (1, 0))
    build_tables((), [store], tmp_path / "a")
    build_tables(sorted(TABLES, reverse=True), [other, store], tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    build_tables((), [store], tmp_path / "a")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_only_the_tables_asked_for(store: Path, tmp_path: Path) -> None:
    written = build_tables(["segmentation", "segmentation"], [store], tmp_path / "out")
    assert [path.name for path in written] == ["segmentation.csv", "segmentation.md"]


def test_unknown_table_and_missing_root_are_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'segmentation'"):
        build_tables(["segmentatoin"], [store], tmp_path / "out")
    with pytest.raises(DataError, match="nowhere"):
        build_tables((), [tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_result_leaves_the_old_tables(store: Path, made: Any, tmp_path: Path) -> None:
    fill(store, made)
    build_tables((), [store], tmp_path / "out")
    before = contents(tmp_path / "out")
    next(store.rglob("scores.csv")).write_text("image\n")
    with pytest.raises(DataError, match=r"scores\.csv"):
        build_tables((), [store], tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "table.md").mkdir()
    with pytest.raises(OSError):  # noqa: PT011  a folder stands where the file should go
        write_atomic(tmp_path / "table.md", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_neither_torch_nor_other_heavy_packages_are_loaded(store: Path, made: Any, tmp_path: Path) -> None:
    fill(store, made)
    code = (
        "import sys; from pathlib import Path; from leaderboards.build import build_tables\n"
        f"build_tables((), [Path({str(store)!r})], Path({str(tmp_path / 'out')!r}))\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"
