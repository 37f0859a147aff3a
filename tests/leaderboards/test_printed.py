"""One spelling in the tables of several papers may mean several methods."""

from __future__ import annotations

import pytest

from leaderboards.literature import Name, Names, load_facts
from postproc.errors import DataError


@pytest.mark.parametrize(
    ("table", "title"),
    [
        ("segmentation", "U-Net"),
        ("generalisation", "U-Net"),
        ("self_supervised", "U-Net"),
        ("dist_kumar_test", "U-Net (cross-entropy)"),
        ("dist_kumar_images", "U-Net (cross-entropy)"),
        ("ki67", "U-Net (points)"),
    ],
)
def test_each_paper_has_its_own_unet(table: str, title: str) -> None:
    facts = load_facts()
    chosen = facts.loc[(facts["table"] == table) & (facts["spelling"] == "U-Net"), "method"]
    assert set(chosen) == {title}


@pytest.mark.parametrize("printed", [("U-Net",), (":U-Net",), ("ki67:",)])
def test_a_name_in_a_table_needs_both(printed: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="table:spelling"):
        Names([Name("A", "a", "a", (), printed)])


def test_a_spelling_in_one_table_has_one_meaning() -> None:
    with pytest.raises(DataError, match="each once"):
        Names([Name("A", "a", "a", (), ("ki67:X",)), Name("B", "b", "b", (), ("ki67:X",))])
