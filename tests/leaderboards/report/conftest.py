"""A report of made-up results: hostile names, two protocols, seeds, types, logs, predictions."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.registry import dataset_class, table_class
from benchmark.results.store import write_instances
from leaderboards.literature import load_facts
from leaderboards.records import load_scores
from leaderboards.report.build import Report, build_report
from postproc.instances import Instances
from postproc.pixels.labels import relabel

HOSTILE = "<img src=x onerror=\"document.title='hacked'\"> & \"U\" 'Net' {{ 7 * 7 }}"
HOSTILE_IMAGE = "<script>document.title='hacked'</script>"
HOSTILE_NOTE = "</script><b id=injected>bold</b> `code` & more"
TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle-shaped")


VOID = {"meta", "link", "img", "input", "br", "hr", "path", "line", "circle", "polyline"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def every(self, tag: str = "") -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag):
                    yield child
                yield from child.every(tag)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def own_text(self) -> str:
        """Text but for small print and what only readers of screens hear."""
        skipped = ("hidden", "sign", "way")
        return "".join(
            child if isinstance(child, str)
            else "" if child.tag == "small" or child.attributes.get("class") in skipped
            else child.own_text
            for child in self.children
        )  # fmt: skip

    @property
    def value(self) -> float:
        """What a cell is sorted by; NaN where there is nothing."""
        text = self.attributes["data-v"]
        return float(text) if text else math.nan

    def columns(self) -> list[str]:
        """Names of the columns of a table in order, those of groups with the group's name."""
        head = next(self.every("thead"))
        rows = [list(row.every("th")) for row in head.every("tr")]
        names: list[str] = []
        below = iter(rows[1]) if len(rows) > 1 else iter([])
        for cell in rows[0]:
            if cell.attributes["scope"] == "colgroup":
                group = cell.own_text.strip()
                names += [f"{group} {next(below).own_text.strip()}" for _ in range(int(cell.attributes["colspan"]))]
            else:
                names.append(cell.own_text.strip())
        return names

    def lines(self) -> list[dict[str, Element]]:
        """Rows of a table that are shown without a filter, cells by column."""
        names = self.columns()
        body = next(self.every("tbody"))
        rows = [row for row in body.every("tr") if "hidden" not in row.attributes]
        cells = [[cell for cell in row.every() if cell.tag in ("td", "th")] for row in rows]
        assert all(len(row) == len(names) for row in cells)
        return [dict(zip(names, row, strict=True)) for row in cells]


class Page(HTMLParser):
    """The tree of a page; fails where tags are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.root = Element("", {})
        self.stack = [self.root]
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert len(self.stack) == 1, f"{path}: {self.stack[-1].tag} is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = Counter(name for name, _ in attrs)
        assert max(names.values(), default=1) == 1, f"{self.path}: {tag} has {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.stack[-1].children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.stack[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop().tag == tag, f"{self.path}: </{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.stack[-1].children.append(data)

    def grids(self) -> dict[str, Element]:
        return {each.attributes["data-grid"]: each for each in self.root.every("table")}


@dataclass(frozen=True)
class Made:
    """What a report is made of.

    Attributes:
        runs: Folder of runs, with predictions and logs.
        published: Folder of collected scores, without.
        data: Folder of datasets.
    """

    runs: Path
    published: Path
    data: Path

    @property
    def roots(self) -> list[Path]:
        return [self.published, self.runs]

    def scores(self) -> pd.DataFrame:
        return load_scores(self.roots)

    def frame(self, table: str) -> pd.DataFrame:
        built: pd.DataFrame = table_class(table)().build(self.scores(), load_facts())
        return built

    def build(self, out: Path) -> Report:
        return build_report(self.roots, self.runs, self.data, out)


def _figures(seed: int, count: int) -> dict[str, list[float]]:
    random = np.random.default_rng(seed)
    return {name: list(random.uniform(0.1, 0.95, count).round(4)) for name in ("dice", "aji", "dq", "sq", "pq")}


def _predict(run: Path, data: Path, dataset: str, variant: str, drop: int) -> list[str]:
    """Write the annotation of each test image, without the first nuclei, as the prediction of a run."""
    module = dataset_class(dataset)(data / dataset)
    names = []
    for record in module.select("test"):
        truth = module.read(record).truth
        assert truth.labels is not None
        labels, types, _ = relabel(np.where(truth.labels > drop, truth.labels, 0), truth.types)
        nuclei = Instances(truth.shape, labels=labels, types=types)
        write_instances(run / "predictions" / dataset / variant / f"{record.image_id}.npz", nuclei)
        names.append(record.image_id)
    return sorted(names)


def _logs(run: Path) -> None:
    (run / "spec.json").write_text(json.dumps({"format": 1, "method": "unet", "seed": 0, "options": {"features": 16}}))
    for phase, steps in enumerate((40, 20)):
        folder = run / "logs" / f"phase{phase}"
        folder.mkdir(parents=True)
        lines = ["epoch,step,train/loss_epoch,train/loss_step,train/border,val/loss"]
        for step in range(9, steps, 10):
            lines.append(f"{step // 20},{step},,{2 / (step + 1):.4f},,")
            if step % 20 == 19:
                lines.append(f"{step // 20},{step},{3 / step:.4f},,{1 / step:.4f},{4 / step:.4f}")
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def material(once: Callable[..., Path], made: Any) -> Made:
    """Folders of runs, collected scores and datasets, which tests only read."""
    root = once("report-material", lambda folder: _fill(folder, made))
    return Made(root / "runs", root / "published", root / "data")


def _fill(root: Path, made: Any) -> None:
    runs, published, data = (root / name for name in ("runs", "published", "data"))
    runs.mkdir()
    published.mkdir()
    for name in ("kumar", "consep"):
        dataset_class(name).write_synthetic(data / name, size=96)
    environment = {"hardware": "1 CPU", "python": "3.11.7", "commit": "abc", "versions": {"torch": "2.15.0"}}
    fingerprint = {"dataset": "kumar", "split": "train", "images": 16, "nuclei": 9907, "sha256": "6d" * 32}
    for seed, protocol in ((0, "paper"), (1, "paper"), (0, "strict")):
        run = made.run(
            runs, f"{protocol}-s{seed}-aaaaaaaa", environment=environment, data=fingerprint, options={"features": 16}
        )
        images = _predict(run, data, "kumar", "plain", 1 + seed)
        made.evaluation(run, "kumar.test", made.scores(images, **_figures(seed, len(images))))
        if (seed, protocol) == (0, "paper"):
            _logs(run)
    run = made.run(
        runs, "paper-s0-bbbbbbbb", method="dist", note=HOSTILE_NOTE, options={"features": "<u>value</u>"},
        variants={"dist": HOSTILE},
    )  # fmt: skip
    images = _predict(run, data, "kumar", "x", 3)
    made.evaluation(run, "kumar.test", made.scores(images, **_figures(5, len(images))), title="DIST", variant="dist")
    made.evaluation(run, "kumar.test", made.scores(images, **_figures(7, len(images))), title=HOSTILE, variant="x")
    made.evaluation(run, "cpm15.all", made.scores([HOSTILE_IMAGE, "image01"], dice=[0.5, np.nan]), variant="x")
    run = made.run(
        runs, "paper-s0-cccccccc", method="hovernet", train="consep.train", variants={"hovernet": "HoVer-Net"}
    )
    images = _predict(run, data, "consep", "hovernet", 2)
    counts = {"F_d": [0.5] * 2, **{f"n_{name}_d": [5] * 2 for name in ("tp", "fp", "fn")}}
    counts |= {"n_correct": [4] * 2, "n_wrong": [1] * 2}
    for k in range(1, 5):
        counts |= {f"F_c_{k}": [0.25] * 2}
        counts |= {f"n_{name}_c_{k}": [2] * 2 for name in ("tp", "fp", "fn")}
        counts |= {f"n_{name}_d_{k}": [1] * 2 for name in ("fp", "fn")}
    scores = made.scores(images, **_figures(3, len(images)), **counts)
    made.evaluation(run, "consep.test", scores, variant="hovernet", title="HoVer-Net", types=TYPES)
    for method, title, distance in (("self-supervised", "Self-supervised", 7.0), ("cnn2", "CNN2", 9.0)):
        run = made.run(published, "paper-s0-dddddddd", method=method, train="monuseg.train", variants={})
        made.evaluation(run, "monuseg.test", made.scores(["a", "b"], ahd=[distance, distance]), title=title)
    run = made.run(published, "paper-s0-eeeeeeee", method="fiji", train=None, training={"steps": 0}, variants={})
    made.evaluation(run, "kumar.test", made.scores(images[:1]), title="Fiji", variant="fiji")
    unfinished = runs / "unet" / "kumar.train" / "paper-s9-ffffffff"
    unfinished.mkdir()
    (unfinished / "spec.json").write_text('{"format": 1}')


@pytest.fixture(scope="session")
def report(material: Made, once: Callable[..., Path]) -> Report:
    """The report of `material`, which tests only read."""

    def build(folder: Path) -> None:
        built = material.build(folder / "report")
        (folder / "built.json").write_text(json.dumps([str(built.index), built.left_out]))

    index, left_out = json.loads((once("report", build) / "built.json").read_text())
    return Report(Path(index), tuple(left_out), ())


@pytest.fixture(scope="session")
def hostile() -> dict[str, str]:
    """Texts that a page must show as they are."""
    return {"title": HOSTILE, "image": HOSTILE_IMAGE, "note": HOSTILE_NOTE}


@pytest.fixture(scope="session")
def parse() -> type[Page]:
    """Reads a page."""
    return Page


@pytest.fixture(scope="session")
def pages(report: Report) -> dict[str, Page]:
    """Every page of the report by its place in it."""
    folder = report.index.parent
    return {path.relative_to(folder).as_posix(): Page(path) for path in sorted(folder.rglob("*.html"))}
