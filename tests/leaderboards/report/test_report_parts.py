from __future__ import annotations

import fnmatch
import math
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leaderboards.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, read_curves, thinned
from leaderboards.report.folder import MARKER, check_replaceable, replacing, report_files
from leaderboards.report.grid import Cell, Grid, Row, difference, from_frame, number, unique_names
from leaderboards.report.outlines import COLORS, MARKS, PREDICTED, layer_of
from leaderboards.report.overlays import choose_images, part_of
from leaderboards.report.runs import Run
from leaderboards.report.scores import Evaluation, image_grid
from leaderboards.report.site import HERE, facts, plain
from leaderboards.report.slugs import LONGEST, slug
from postproc.errors import ConfigError
from postproc.instances import Instances

NAMES = st.one_of(st.text(max_size=130), st.from_regex(r"[a-z0-9._/-]{1,12}", fullmatch=True))


@settings(deadline=None)
@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
@example(["a/b", "a--b"])
@example(["a/b-c", "a-b/c"])
@example(["Kumar", "kumar"])
@example(["a" * 200, "a" * 201])
@example(["x", "x "])
def test_two_names_never_share_a_file(names: list[str]) -> None:
    first, second = (slug(name) for name in names)
    assert first != second
    for text in (first, second):
        assert text == text.lower()
        assert 0 < len(text) <= LONGEST + 20
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert text[0] not in ".-"
        assert text.split(".")[0] not in ("con", "nul", "aux", "prn", "com1", "lpt1")


def test_a_file_looks_like_its_name() -> None:
    assert slug("unet/kumar/paper-s0-f7530be4") == "unet--kumar--paper-s0-f7530be4"
    assert slug("consep.test_diff") == "consep.test_diff"
    assert slug("con") != "con"
    assert slug("../../etc/passwd").startswith("etc-passwd__")


def write(out: Path, content: str, error: BaseException | None = None) -> None:
    """Write a report of one page, or fail before it is whole."""
    with replacing(out) as fresh:
        (fresh / "index.html").write_text(content)
        (fresh / f"{content}.html").touch()
        if error:
            raise error


def test_only_reports_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    check_replaceable(out)
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="or a report"):
        write(out, "new")
    assert (out / "thesis.tex").read_text() == "years of work"
    (out / "thesis.tex").rename(tmp_path / "file")
    with pytest.raises(ConfigError, match="is a file"):
        check_replaceable(tmp_path / "file")
    for content in ("old", "new"):
        write(out, content)
    assert report_files(out) == ["index.html", "new.html"]
    assert (out / "index.html").read_text() == "new"
    assert out.stat().st_mode & 0o555 == 0o555
    (out / ".DS_Store").touch()  # of a file manager: nobody misses it
    check_replaceable(out)
    (out / "deep").mkdir()
    (out / "deep/notes.txt").touch()
    with pytest.raises(ConfigError, match=r"deep/notes\.txt"):
        check_replaceable(out)
    (out / MARKER).write_text("{")
    with pytest.raises(ConfigError, match="broken"):
        check_replaceable(out)
    assert {path.name for path in tmp_path.iterdir()} == {"report", "file"}


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_what_fails_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "report"
    with pytest.raises(type(error)):
        write(out, "half", error)
    assert not list(tmp_path.iterdir())
    write(out, "old")
    with pytest.raises(type(error)):
        write(out, "half", error)
    assert (out / "index.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_files_that_come_while_the_report_is_built_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "report"

    def build() -> None:
        with replacing(out):
            out.mkdir()
            (out / "meanwhile.txt").touch()

    with pytest.raises(ConfigError, match="or a report"):
        build()
    assert report_files(out) == ["meanwhile.txt"]


def test_a_swap_that_fails_puts_the_old_report_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    write(out, "old")
    replace = Path.replace

    def broken(self: Path, target: Path) -> Path:
        if self.suffix == ".part" and self.is_dir():
            raise OSError("disk on fire")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="fire"):
        write(out, "new")
    assert (out / "index.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_all_templates_and_assets_are_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["leaderboards.report"]
    used = [
        path.relative_to(HERE).as_posix() for folder in ("assets", "templates") for path in (HERE / folder).iterdir()
    ]
    assert len(used) >= 10
    assert [name for name in used if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []


def test_differences_have_a_sign_and_a_direction() -> None:
    assert difference(0.5, 0.4, True) == Cell("+0.100", pytest.approx(0.1), kind="diff", trend="better")
    assert difference(0.5, 0.4, False).trend == "worse"
    assert difference(0.4, 0.5, False) == Cell("−0.100", pytest.approx(-0.1), kind="diff", trend="better")
    assert difference(0.50001, 0.5, True).trend == ""
    assert difference(0.50001, 0.5, True).text == difference(0.49999, 0.5, True).text == "±0.000"
    assert difference(math.nan, 0.5, True) == difference(0.5, None, True) == Cell(kind="diff")


def test_numbers_are_written_for_people_and_kept_for_sorting() -> None:
    assert number(-1234.5678) == Cell("−1,234.568", -1234.5678)
    assert number(np.float64("nan")).sort == ""
    assert number(math.inf).text == "∞"
    assert number(1 / 3).sort == "0.333333333"
    assert unique_names(["A b", "a-b", "Ä", ""]) == ["a-b", "a-b-2", "table", "table-2"]


def test_any_frame_can_be_shown() -> None:
    frame = pd.DataFrame({"what": ["a", None], "share": [0.25, np.nan], "n": [3, 1000], "on": [True, False]})
    grid = from_frame("name", "Title", frame)
    assert [(column.label, column.numeric) for column in grid.columns] == [
        ("what", False), ("share", True), ("n", True), ("on", False),
    ]  # fmt: skip
    assert [cell.text for row in grid.rows for cell in row.cells] == [
        "a",
        "0.250",
        "3",
        "True",
        "",
        "",
        "1,000",
        "False",
    ]


def test_filters_are_offered_where_they_help() -> None:
    rows = [Row((Cell("a"),), protocol) for protocol in ("paper", "strict", "")]
    assert Grid("g", "", (), tuple(rows)).protocols == ["paper", "strict"]
    assert Grid("g", "", (), tuple(rows)).some_not_run
    assert Grid("g", "", (), tuple(rows[:1])).protocols == []
    assert not Grid("g", "", (), tuple(rows[:2])).some_not_run


def write_log(folder: Path, phase: int, lines: list[str]) -> Path:
    path = folder / f"phase{phase}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_curves_follow_the_logs(tmp_path: Path) -> None:
    head = "epoch,step,train/loss_epoch,train/loss_step,val/loss,train/part"
    first = write_log(tmp_path, 0, [head, "0,9,,4.0,,", "0,19,,nan,,", "0,19,3.0,,2.0,0.5", "1,39,1.0,,1.0,0.25"])
    second = write_log(tmp_path, 1, [head, "0,9,,0.5,,", "0,19,0.5,,,"])
    charts, problem = read_curves([first, second])
    assert problem == ""
    assert [chart.name for chart in charts] == ["loss", "part"]
    loss = charts[0]
    assert [line.label for line in loss.lines] == ["train, each step", "train", "validation"]
    assert [line.dashed for line in loss.lines] == [False, False, True]

    def across(step: float) -> float:
        return LEFT + step / 60 * (WIDTH - LEFT - RIGHT)

    points = [[float(v) for v in pair.split(",")] for pair in loss.lines[1].points.split()]
    assert [x for x, _ in points] == pytest.approx([across(20), across(40), across(60)], abs=0.06)
    heights = [(HEIGHT - BOTTOM - y) / (HEIGHT - TOP - BOTTOM) for _, y in points]
    assert heights == pytest.approx([3 / 4, 1 / 4, 0.5 / 4], abs=1e-3)
    assert loss.breaks == (pytest.approx(across(40), abs=0.06),)
    assert [tick.label for tick in loss.y] == ["0", "1", "2", "3", "4"]
    assert loss.lines[0].last == "0.5"
    assert not loss.log


def test_a_wide_span_has_a_logarithmic_axis_and_odd_values_are_counted(tmp_path: Path) -> None:
    lines = ["epoch,step,train/loss_step", *(f"0,{k},{1000 / 10**k}" for k in range(5)), "0,5,inf", "0,6,-inf"]
    (chart,), _ = read_curves([write_log(tmp_path, 0, lines)])
    assert chart.log
    assert chart.left_out == 2
    ys = [float(pair.split(",")[1]) for pair in chart.lines[0].points.split()]
    assert np.diff(ys) == pytest.approx(np.full(4, (HEIGHT - TOP - BOTTOM) / 4), abs=0.2)


@pytest.mark.parametrize("content", ["", "epoch,train/loss\n0,1\n", "step,train/loss\n", 'step,"train/loss\n1,2'])
def test_broken_logs_are_said(tmp_path: Path, content: str) -> None:
    path = tmp_path / "phase0" / "metrics.csv"
    path.parent.mkdir()
    path.write_text(content)
    charts, problem = read_curves([path])
    assert charts == []
    assert problem.startswith("phase0: ")


def test_constant_curves_and_long_ones_can_be_drawn(tmp_path: Path) -> None:
    lines = ["step,train/loss_step", *(f"{k},2.5" for k in range(3000))]
    (chart,), _ = read_curves([write_log(tmp_path, 0, lines)])
    assert len(chart.lines[0].points.split()) == 400
    assert all(TOP <= tick.at <= HEIGHT - BOTTOM for tick in chart.y)
    line = np.stack([np.arange(1000.0), np.arange(1000.0) % 2], 1)
    assert thinned(line, 100)[:, 1] == pytest.approx(np.full(100, 0.5))


def test_outlines_are_closed_paths_in_the_colours_of_the_types() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:8, 3:10], labels[10:16, 12:20], labels[18, 28] = 1, 2, 3
    nuclei = Instances(labels.shape, labels=labels, types=np.array([1, 2, 0]))
    layer = layer_of(nuclei, ("tumour", "other"), "x.svg", predicted=True)
    assert [(kind.name, kind.count) for kind in layer.kinds] == [("no type", 1), ("tumour", 1), ("other", 1)]
    assert [kind.color for kind in layer.kinds] == list(COLORS[:3])
    assert len({kind.dash for kind in layer.kinds[1:]}) == 2
    root = ET.fromstring(layer.svg)
    assert root.attrib["viewBox"] == "0 0 30 20"
    paths = [e.attrib["d"] for e in root.iter() if e.tag.endswith("path")]
    assert paths[1] == "M3 2l0 5l6 0l0 -5z"
    assert all(path.endswith("z") for path in paths)
    plain_layer = layer_of(nuclei, (), "x.svg", predicted=True)
    assert plain_layer.kinds == ()
    assert PREDICTED in plain_layer.svg


def test_points_within_a_window_are_dots() -> None:
    points = np.array([[5, 5], [15, 8], [12, 18.5]], np.float32)
    nuclei = Instances((20, 30), points=points, types=np.array([1, 2, 1]))
    part = part_of(nuclei, (slice(4, 20), slice(10, 30)))
    assert part.shape == (16, 20)
    assert part.points is not None
    assert part.points.tolist() == [[5, 4], [2, 14.5]]
    assert part.types is not None
    assert part.types.tolist() == [2, 1]
    layer = layer_of(part, ("a", "b"), "x.svg", predicted=False)
    drawn = [e.attrib["d"] for e in ET.fromstring(layer.svg).iter() if e.tag.endswith("path")]
    assert [path.split("m")[0] for path in drawn] == ["M2.0 14.5", "M5.0 4.0"]
    assert [kind.mark for kind in layer.kinds] == list(MARKS[:2])
    assert layer.count == 2


def test_labels_within_a_window_keep_their_types() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[0:3, 0:3], labels[10:16, 12:20] = 1, 2
    part = part_of(Instances(labels.shape, labels=labels, types=np.array([4, 7])), (slice(8, 18), slice(10, 30)))
    assert part.labels is not None
    assert part.labels.max() == 1
    assert part.types is not None
    assert part.types.tolist() == [7]


def evaluation(scores: dict[str, list[Any]], types: tuple[str, ...] = ()) -> Evaluation:
    run = Run("m/d/r", {}, {"protocol": "paper", "seed": 0, "method": "m"}, None, None, (), ())
    return Evaluation(run, "d", "s", "v", "M", types, pd.DataFrame(scores))


def test_shown_images_are_the_hardest_the_typical_and_the_easiest_of_all_methods() -> None:
    first = evaluation({"image": list("abcde"), "pq": [0.1, 0.9, 0.5, 0.4, 0.6]})
    second = evaluation({"image": list("abcde"), "aji": [0.9, 0.9, 0.5, 0.4, 0.2]})
    assert choose_images([first]) == {"a": "hardest", "c": "typical", "b": "easiest"}
    assert choose_images([first, second]) == {"d": "hardest", "a": "typical", "b": "easiest"}  # means: .5 .9 .5 .4 .4
    assert choose_images([evaluation({"image": ["a"], "pq": [0.5]})]) == {"a": "the only one"}
    assert choose_images([evaluation({"image": ["a"], "ahd": [2.0]})]) == {}


def test_scores_of_types_have_their_names_and_counts_of_thresholds_are_left_out() -> None:
    grid = image_grid(
        evaluation(
            {"image": ["a", "b"], "pq": [0.5, np.nan], "F_c_2": [0.25, 0.5], "F_c_2_gated": [0.1, 0.2],
             "ahd": [3.0, 5.0], "n_true": [3.0, 4.0], "n_pred@0.50": [1, 2]},
            ("x", "y"),
        ),
        {"b": "evaluations/e.html#b"},
    )  # fmt: skip
    assert [column.label for column in grid.columns] == ["Image", "PQ", "F_c y", "AHD, px", "annotated"]
    assert [column.descending for column in grid.columns] == [False, True, True, False, True]
    assert [cell.value for cell in grid.rows[1].cells] == [None, None, 0.5, 5.0, 4.0]
    assert [row.cells[0].href for row in grid.rows] == ["", "evaluations/e.html#b"]
    assert [cell.share for cell in grid.rows[0].cells] == [None, 0.5, 0.25, None, None]
    assert [cell.text for cell in grid.footer[0].cells] == ["mean", "0.500", "0.375", "4.0", "3.5"]


def test_settings_are_flat_and_readable() -> None:
    content = {"a": {"b": [1, 2], "c": {}}, "flag": True, "nothing": None, "big": 598137, "steps": 4000, "rate": 0.003}
    assert facts(content) == [
        ("a.b", "1, 2"), ("a.c", "–"), ("flag", "yes"), ("nothing", "–"), ("big", "598,137"), ("steps", "4000"),
        ("rate", "0.003"),
    ]  # fmt: skip
    assert plain([{"x": 1}]) == '[{"x": 1}]'
