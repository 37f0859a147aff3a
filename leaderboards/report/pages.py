"""The pages of a report and their contents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from leaderboards.base import Comparison, Table
from leaderboards.build import to_csv
from leaderboards.report.curves import read_curves
from leaderboards.report.grid import Cell, Column, Grid, Group, Row, number
from leaderboards.report.overlays import IMAGES, SIDE, Overlay
from leaderboards.report.plots import Plot
from leaderboards.report.runs import Run
from leaderboards.report.scores import Evaluation, evaluations_grid, headline_text, image_grid
from leaderboards.report.site import Site, facts
from leaderboards.report.slugs import slug
from leaderboards.report.tables import table_grids


@dataclass(frozen=True, eq=False)
class Content:
    """Contents of a report.

    Attributes:
        runs: Finished runs by id.
        tables: Each table with its frame, by name.
        evaluations: Evaluations in order.
        overlays: Overlays by the page of their evaluation.
        plots: Pictures.
        left_out: Missing items and reasons, by part of the report.
    """

    runs: Mapping[str, Run]
    tables: Mapping[str, tuple[Table, pd.DataFrame]]
    evaluations: Sequence[Evaluation]
    overlays: Mapping[str, Sequence[Overlay]]
    plots: Sequence[Plot]
    left_out: Mapping[str, Sequence[str]]


def write_pages(content: Content, out: Path) -> None:
    """Write every page of a report below a folder."""
    site = Site(out, {name: table.title for name, (table, _) in content.tables.items()})
    for name in content.tables:
        _table_page(site, content, name)
    for run in content.runs.values():
        _run_page(site, content, run)
    for evaluation in content.evaluations:
        _evaluation_page(site, content, evaluation)
    sets = _overlay_pages(site, content)
    site.write("plots.html", "plots.html", plots=content.plots, left_out=content.left_out["plots"])
    grid = evaluations_grid("evaluations", "Every evaluation", content.evaluations)
    site.write("evaluations.html", "evaluations.html", grid=grid)
    site.write(
        "index.html",
        "index.html",
        counts=_counts(content),
        tables=_tables_grid(content),
        runs=_runs_grid(content),
        sets=sets,
        left_out={kind: lines for kind, lines in content.left_out.items() if lines},
    )


def _table_page(site: Site, content: Content, name: str) -> None:
    table, frame = content.tables[name]

    def links(run_id: str) -> str:
        return content.runs[run_id].page if run_id in content.runs else ""

    grids = table_grids(table, frame, links)
    site.add(f"tables/{name}.csv", to_csv(frame))
    compared = isinstance(table, Comparison)
    site.write(f"tables/{name}.html", "table.html", table=table, grids=grids, csv=f"{name}.csv", compared=compared)


def _run_page(site: Site, content: Content, run: Run) -> None:
    charts, problem = read_curves(run.logs)
    own = [each for each in content.evaluations if each.run is run]
    named = [(name, table.title) for name, (table, frame) in content.tables.items() if _counts_for(run, frame)]
    training = run.record.get("training") or {}
    environment = run.record.get("environment") or {}
    sections = {
        "Configuration": _configuration(run),
        "Data": facts(run.record.get("data") or {}),
        "Training": facts(training),
        "Environment": facts(environment),
    }
    raw = {"record.json": run.record, "spec.json": run.spec, "params.json": run.params}
    site.write(
        run.page,
        "run.html",
        run=run,
        sections={title: lines for title, lines in sections.items() if lines},
        charts=charts,
        problem=problem,
        trained=bool(training.get("steps")),
        raw={name: json.dumps(text, indent=2, ensure_ascii=False) for name, text in raw.items() if text is not None},
        evaluations=evaluations_grid("evaluations", "Evaluations of this run", own, run=False) if own else None,
        named=named,
    )


def _configuration(run: Run) -> list[tuple[str, str]]:
    """Return the settings of a run: those of its stored spec if any, otherwise those of its record."""
    source = run.spec or {
        key: run.record.get(key) for key in ("method", "train", "protocol", "seed", "options", "overrides")
    }
    chosen = {key: value for key, value in source.items() if key != "format"}
    return [*facts(chosen), ("weights", str(run.facts["weights"])), ("source", str(run.facts["source"]))]


def _counts_for(run: Run, frame: pd.DataFrame) -> bool:
    if not {"reference", "runs"} <= set(frame):  # only comparisons name the runs of a row
        return False
    return any(run.run_id in str(text).split("; ") for text in frame["runs"].unique())


def _evaluation_page(site: Site, content: Content, evaluation: Evaluation) -> None:
    overlays = content.overlays.get(evaluation.page, ())
    pictured = {each.picture.image: f"{evaluation.page}#{slug(each.picture.image)}" for each in overlays}
    site.add(f"{evaluation.file}.csv", to_csv(evaluation.frame))
    about = evaluation.run.about(evaluation.target, evaluation.variant)
    site.write(
        evaluation.page,
        "evaluation.html",
        evaluation=evaluation,
        grid=image_grid(evaluation, pictured),
        figures=headline_text(evaluation),
        params=facts({key: about[key] for key in ("params", "radius") if about.get(key)}),
        overlays=[(slug(each.picture.image), each) for each in overlays],
        csv=f"{Path(evaluation.file).name}.csv",
        same_images=_set_page(evaluation.target) if overlays else "",
        side=SIDE,
        most=IMAGES,
    )


def _set_page(target: str) -> str:
    return f"overlays/{slug(target)}.html"


def _overlay_pages(site: Site, content: Content) -> list[tuple[str, str, int]]:
    """Write a page per set with all methods on the same images; return (set, page or empty, evaluations)."""
    targets: dict[str, list[Evaluation]] = {}
    for each in content.evaluations:
        targets.setdefault(each.target, []).append(each)
    found = []
    for target, evaluations in sorted(targets.items()):
        images: dict[str, list[Overlay]] = {}
        for each in evaluations:
            for overlay in content.overlays.get(each.page, ()):
                images.setdefault(overlay.picture.image, []).append(overlay)
        ranked = [
            (slug(image), sorted(shown, key=lambda each: (-_finite(each.value), each.evaluation.page)))
            for image, shown in images.items()
        ]
        page = _set_page(target) if ranked else ""
        if page:
            site.write(page, "overlays.html", target=target, images=ranked, side=SIDE, most=IMAGES)
        found.append((target, page, len(evaluations)))
    return found


def _finite(value: float) -> float:
    return value if value == value else -1.0


def _counts(content: Content) -> list[tuple[str, str]]:
    methods = {run.facts["method"] for run in content.runs.values()}
    sets = {each.target for each in content.evaluations}
    numbers = (
        ("methods", len(methods)),
        ("runs", len(content.runs)),
        ("sets of images", len(sets)),
        ("evaluations", len(content.evaluations)),
        ("scored images", sum(len(each.frame) for each in content.evaluations)),
    )
    return [(name, f"{count:,}") for name, count in numbers]


def _tables_grid(content: Content) -> Grid:
    rows = []
    for name, (table, frame) in content.tables.items():
        ours = published = ""
        if {"method", "ours", "published"} <= set(frame):
            rows_of = frame.groupby("method")[["ours", "published"]].count()
            ours, published = str(int((rows_of["ours"] > 0).sum())), str(int((rows_of["published"] > 0).sum()))
        datasets = [text for text in dict.fromkeys(frame["dataset"]) if text] if "dataset" in frame else []
        cells = (
            Cell(table.title, href=f"tables/{name}.html"),
            Cell(", ".join(datasets) if len(datasets) < 8 else "many", kind="words"),
            Cell(ours, float(ours) if ours else None),
            Cell(published, float(published) if published else None),
        )  # fmt: skip
        rows.append(Row(cells))
    columns = (
        Column("Table", numeric=False, descending=False),
        Column("datasets", numeric=False, descending=False),
        Column("rows run", hint="Rows with our figures"),
        Column("rows published", hint="Rows with published figures"),
    )
    return Grid("tables", "Tables", (Group("", columns),), tuple(rows))


def _runs_grid(content: Content) -> Grid:
    texts = ("Run", "trained on", "protocol")
    columns = [Column(text, numeric=False, descending=False) for text in texts]
    columns += [Column(text) for text in ("seed", "steps", "minutes", "parameters", "evaluations")]
    columns += [Column(text, numeric=False, descending=False) for text in ("weights", "hardware", "settings")]
    rows = []
    for run in content.runs.values():
        facts_, training = run.facts, run.record.get("training") or {}
        cells = (
            Cell(run.title, href=run.page, sub=run.run_id),
            Cell(str(facts_["trained_on"]) or "–", kind="words"),
            Cell(str(facts_["protocol"])),
            number(facts_["seed"], 0),
            number(facts_["steps"], 0),
            number(facts_["minutes"], 1),
            number(training.get("parameters"), 0),
            number(sum(each.run is run for each in content.evaluations), 0),
            Cell(str(facts_["weights"]), kind="words"),
            Cell(", ".join(str(facts_[key]) for key in ("hardware", "precision") if facts_[key]), kind="words"),
            Cell(str(facts_["options"]) or "paper's", kind="words long"),
        )
        rows.append(Row(cells, str(facts_["protocol"])))
    return Grid("runs", "Runs", (Group("", tuple(columns)),), tuple(rows))


__all__ = ["Content", "write_pages"]
