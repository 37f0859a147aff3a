"""Confusion matrices as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leaderboards.literature import load_facts
from leaderboards.papers.classification import Classification
from leaderboards.papers.typed import without_classify
from leaderboards.plots.confusion import draw_confusion, row_shares
from leaderboards.plots.draw import draw_plots
from leaderboards.plots.style import Drawn, Stored, style
from leaderboards.records import load_scores
from leaderboards.statistics.entries import fields

TYPES = ["miscellaneous", "inflammatory", "epithelial", "spindle-shaped"]
MATRIX = np.array([[3, 1, 0, 0], [2, 40, 0, 1], [0, 5, 100, 0], [0, 0, 10, 70]])
MISSED, EXTRA = [6, 7, 8, 9], [11, 12, 13, 0]


def confusion_scores(made: Any, *, unlabelled: int = 0) -> dict[str, Any]:
    """Two images that add up to `MATRIX`: all pairs on the first, what has no partner on the second."""
    counts = {f"n_pair_{i}_{j}": [0, 0] for i in range(5) for j in range(5)}
    counts |= {f"n_{side}_{i}": [0, 0] for side in ("missed", "extra") for i in range(5)}
    for i in range(4):
        for j in range(4):
            counts[f"n_pair_{i + 1}_{j + 1}"] = [int(MATRIX[i, j]), 0]
        counts[f"n_missed_{i + 1}"], counts[f"n_extra_{i + 1}"] = [0, MISSED[i]], [0, EXTRA[i]]
    counts["n_pair_0_2"] = [unlabelled, 0]
    return made.scores(["a", "b"]) | {"F_d": [0.5, 0.5]} | counts


def write(store: Path, made: Any, run: str, scores: dict[str, Any], where: str = "consep.test", **changes: Any) -> None:
    folder = made.run(store, run, **{"train": "consep.train", "method": "dist", **changes})
    made.evaluation(folder, where, scores, variant=changes.get("method", "dist"), title="DIST", types=TYPES)


def draw(store: Path, out: Path) -> tuple[list[Path], list[str]]:
    drawn = list(draw_plots(["confusion"], [store], store, store, out))
    return [path for paths, _ in drawn for path in paths], [note for _, note in drawn if note]


def figures(store: Path) -> list[Drawn]:
    found = tuple(fields(without_classify(load_scores([store])), (Classification,)))
    with style():
        return list(draw_confusion(Stored((), load_facts(), store, store, found)))


def cells(drawn: Drawn) -> list[str]:
    """Return what the cells of the first panel say, row by row."""
    assert drawn.figure is not None
    return [text.get_text() for text in drawn.figure.axes[0].texts]


def labels(drawn: Drawn) -> tuple[list[str], list[str]]:
    """Return the labels of the rows and of the columns of the first panel."""
    assert drawn.figure is not None
    panel = drawn.figure.axes[0]
    return [t.get_text() for t in panel.get_yticklabels()], [t.get_text() for t in panel.get_xticklabels()]


def test_pictures_are_written(store: Path, made: Any, tmp_path: Path) -> None:
    write(store, made, "paper-s0-aaaaaaaa", confusion_scores(made))
    paths, notes = draw(store, tmp_path / "out")
    assert {path.name for path in paths} == {"confusion-consep-paper.png", "confusion-consep-paper.svg"}
    assert notes == []
    pixels = np.asarray(Image.open(next(p for p in paths if p.suffix == ".png")).convert("RGB")).astype(int)
    assert (pixels[..., 2] - pixels[..., 0] > 60).sum() > 1000, "blue cells"


def test_every_cell_has_its_share_and_its_count(store: Path, made: Any) -> None:
    write(store, made, "paper-s0-aaaaaaaa", confusion_scores(made), options={"classify": True})
    (drawn,) = figures(store)
    table = np.vstack([np.column_stack([MATRIX, MISSED]), [*EXTRA, 0]])
    percent = 100 * table / table.sum(axis=1, keepdims=True)
    shown = [f"{p:.0f}%\n{n}" if n else "0" for p, n in zip(percent.ravel(), table.ravel(), strict=True)]
    assert cells(drawn) == shown[:-1]  # the last has no meaning
    assert labels(drawn) == (
        ["miscellaneous\n10", "inflammatory\n50", "epithelial\n113", "spindle-shaped\n89", "not annotated\n36"],
        [*TYPES, "missed"],
    )
    assert drawn.figure is not None
    assert drawn.figure.axes[0].get_title() == "DIST [2 of 14 images]"


def test_seeds_are_averaged_and_images_added(store: Path, made: Any) -> None:
    for seed, factor in ((0, 1), (1, 3)):
        scores = {
            name: [factor * value for value in values] if name.startswith("n_") else values
            for name, values in confusion_scores(made).items()
        }
        write(store, made, f"paper-s{seed}-aaaaaaaa", scores)
    (drawn,) = figures(store)
    assert "88%\n200" in cells(drawn)  # epithelial: 100 and 300
    assert drawn.figure is not None
    assert drawn.figure.axes[0].get_title().endswith("mean of 2 runs")


def test_nuclei_without_a_type_have_a_row_where_there_are_some(store: Path, made: Any) -> None:
    write(store, made, "paper-s0-aaaaaaaa", confusion_scores(made, unlabelled=17), where="crchisto.all")
    (drawn,) = figures(store)
    assert drawn.name == "confusion-crchisto-paper"
    rows, columns = labels(drawn)
    assert "no type\n17" in rows
    assert "no type" not in columns
    assert "100%\n17" in cells(drawn)


def test_older_scores_are_said_to_lack_it(store: Path, made: Any, tmp_path: Path) -> None:
    old = made.scores(["a", "b"]) | {"F_d": [0.5, 0.5]}
    write(store, made, "paper-s0-aaaaaaaa", old)
    paths, notes = draw(store, tmp_path / "a")
    assert paths == []
    assert len(notes) == 1
    assert "DIST has no stored confusions" in notes[0]
    write(store, made, "paper-s0-bbbbbbbb", confusion_scores(made), options={"features": 8})
    paths, notes = draw(store, tmp_path / "b")
    assert len(paths) == 2
    assert "paper's settings) has no stored confusions" in notes[0]


def test_only_the_best_rows_are_drawn_and_nothing_is_cut_off(store: Path, made: Any, whole: Any) -> None:
    for k in range(7):
        scores = confusion_scores(made)
        scores["n_pair_3_3"] = [100 * (k + 1), 0]
        write(store, made, f"paper-s{k}-aaaaaaaa", scores, options={"features": 8 * k + 8})
    (drawn,) = figures(store)
    assert drawn.note == "only the best 6 of 7 rows, by share of correct types, are shown"
    assert drawn.figure is not None
    titles = [panel.get_title() for panel in drawn.figure.axes]
    assert [title.split("features=")[1].split(")")[0] for title in titles] == ["56", "48", "40", "32", "24", "16"]
    with style():
        whole(drawn.figure)


def test_shares_of_rows() -> None:
    shares = row_shares(np.array([[1.0, 3.0, 0.0], [0.0, 0.0, 0.0], [2.0, 2.0, np.nan]]))
    assert shares[0].tolist() == [0.25, 0.75, 0]
    assert np.isnan(shares[1]).all(), "no nucleus of that type"
    assert shares[2, :2].tolist() == pytest.approx([0.5, 0.5])
    assert np.isnan(shares[2, 2])
