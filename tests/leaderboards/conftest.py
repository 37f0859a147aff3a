"""A made-up store of results, written in the layout that the runner uses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SPLITS = {"kumar.test": 3, "consep.test": 2, "cpm17.test": 2, "cpm15.all": 2, "cpm17.all": 3, "tnbc.all": 2}
SPLITS |= {"consep.all": 4, "crchisto.all": 2}


def images_expected(dataset: str, split: str) -> int:
    """Number of images in the made-up sets."""
    return SPLITS[f"{dataset}.{split}"]


def write_run(root: Path, run: str, *, train: str | None = "kumar.train", **changes: Any) -> Path:
    """Write the ``record.json`` of a run called ``<protocol>-s<seed>-<hash>`` and return its folder."""
    protocol, seed, _ = run.split("-")
    method = changes.get("method", "unet")
    record = {
        "format": 1,
        "run_id": f"{method}/{train or 'none'}/{run}",
        "method": method,
        "protocol": protocol,
        "seed": int(seed[1:]),
        "train": dict(zip(("dataset", "split"), train.split("."), strict=True)) if train else None,
        "variants": {"plain": "U-Net", "pp": "U-Net + PP"},
        "options": {},
        "training": {
            "steps": 200,
            "minutes": 1.5,
            "weights": "none",
            "hardware": "1 CPU core",
            "precision": "32",
        },
        "environment": {},
        "data": {},
        "source": "run",
        "note": "",
    } | changes
    folder = root / method / (train or "none") / run
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def write_evaluation(
    run: Path,
    where: str,
    scores: dict[str, Sequence[Any]],
    *,
    variant: str = "plain",
    title: str = "U-Net",
    types: Sequence[str] = (),
) -> Path:
    """Write ``evaluations/<dataset>.<split>/<variant>`` of a run; `scores`: columns, ``image`` among them."""
    folder = run / "evaluations" / where / variant
    folder.mkdir(parents=True)
    lines = list(zip(*scores.values(), strict=True))
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([list(scores), *lines])
    dataset, split = where.split(".")
    about = {"dataset": dataset, "split": split, "variant": variant, "title": title, "params": {}}
    about |= {"images": len(lines), "types": list(types), "radius": 12.0}
    (folder / "evaluation.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def segmentation_scores(images: Sequence[str], **columns: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """Per-image scores: metrics that are not given are 0.5; each image has 2 of 3 nuclei found."""
    metrics = ("dice", "aji", "aji_plus", "dice2", "dq", "sq", "pq")
    given = {name: columns.pop(name, [0.5] * len(images)) for name in metrics}
    each = {"n_true": 3, "n_pred": 3, "n_tp": 2, "n_fp": 1, "n_fn": 1, "n_iou_sum": 1.5}
    counts = {name: [count] * len(images) for name, count in each.items()}
    return {"image": images, **given, **counts, **columns}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Folder for a made-up store."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


Writer = Callable[..., Path]


class Made:
    """The writers, handed to tests as a fixture because test folders are no packages."""

    run = staticmethod(write_run)
    evaluation = staticmethod(write_evaluation)
    scores = staticmethod(segmentation_scores)
    expected = staticmethod(images_expected)


@pytest.fixture(scope="session")
def made() -> type[Made]:
    """Writers of runs, evaluations and scores."""
    return Made


def assert_nothing_is_cut_off(figure: Figure) -> None:
    """Draw a figure and check that its texts end inside it, within 0.02 inch."""
    FigureCanvasAgg(figure).draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


@pytest.fixture(scope="session")
def whole() -> Callable[[Figure], None]:
    """The check that a figure cuts nothing off."""
    return assert_nothing_is_cut_off
