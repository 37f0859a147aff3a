"""Splits of a dataset of another package, beside the module of its class."""

from __future__ import annotations

import dataclasses
import sys
from importlib import import_module
from pathlib import Path

import pytest

from datamodules.cpm17 import CPM17
from datamodules.reading.splits import COLUMNS
from postproc.errors import DataError

MODULE = """
import dataclasses
from datamodules.cpm17 import CPM17

class Mine(CPM17):
    card = dataclasses.replace(CPM17.card, name="mine", images={"train": 2})
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "nucbench_test_package_of_splits"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_they_are_read_from_the_folder_of_the_module(module: str, tmp_path: Path) -> None:
    file = tmp_path / "splits" / "mine.csv"
    file.parent.mkdir()
    file.write_text("image_id,group,split,validation\ntrain_a,a,train,0\ntrain_b,b,train,1\n")
    rows = import_module(module).Mine.splits()
    assert {row.image_id: (row.group, row.validation) for row in rows.values()} == {
        "train_a": ("a", False),
        "train_b": ("b", True),
    }
    assert len(CPM17.splits()) == 64
    file.write_text("image_id,split\ntrain_a,train\n")
    with pytest.raises(DataError, match=r"mine\.csv has no column group"):
        import_module(module).Mine.splits()


def test_a_missing_file_is_named_with_its_columns(module: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        import_module(module).Mine.splits()
    assert str(tmp_path / "splits" / "mine.csv") in str(caught.value)
    assert ", ".join(COLUMNS) in str(caught.value)


def test_a_subclass_within_the_suite_may_share_its_folder() -> None:
    class Other(CPM17):
        card = dataclasses.replace(CPM17.card)

    assert Other.splits() == CPM17.splits()
