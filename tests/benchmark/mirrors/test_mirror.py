"""The parts of mirrors: ids, what is told, pictures, loggers that go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.host.machine import wandb_mode
from benchmark.mirrors.dashboards import WandbDashboard
from benchmark.mirrors.describe import configuration, figures, fitted, tags
from benchmark.mirrors.notebook import Notebook
from benchmark.mirrors.pictures import panel, validation_crops
from benchmark.mirrors.training import ContinuedCSVLogger, log_interval, metrics_file, read_metrics
from benchmark.results.pictures import color
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.train import build_method, task_of
from datamodules.consep import CoNSeP
from datamodules.reading.sample import Sample
from postproc.instances import Instances

SPEC = RunSpec("dist", "kumar", options={"features": 2}, overrides=Overrides(steps=4))


# ---- ids -------------------------------------------------------------------------------------------------------------


def test_an_id_lasts_and_is_no_other_runs(tmp_path: Path) -> None:
    here = tmp_path / "here"
    first = Notebook(here, "dist/kumar/x")
    first.note("wandb", "phase0")
    again = Notebook(here, "dist/kumar/x")
    assert again.wandb_id == first.wandb_id
    assert again.shown("wandb") == ("phase0",)
    assert again.shown("tensorboard") == ()

    shutil.copytree(here, tmp_path / "copy")
    elsewhere = Notebook(tmp_path / "elsewhere", "dist/kumar/x")
    others = {Notebook(tmp_path / "copy", "dist/kumar/x").wandb_id, Notebook(here, "dist/kumar/y").wandb_id}
    assert len({first.wandb_id, elsewhere.wandb_id, *others}) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 3, "shown": []}'])
def test_a_broken_notebook_means_a_new_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "mirror.json").write_text(content)
    notes = Notebook(tmp_path, "dist/kumar/x")
    assert notes.shown("wandb") == ()
    notes.note("wandb", "phase0")
    assert Notebook(tmp_path, "dist/kumar/x").wandb_id == notes.wandb_id


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_the_mode_is_what_wandb_is_told_else_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_mode() == "offline"
    for mode, expected in (("online", "online"), ("disabled", "off"), ("dryrun", "offline"), ("", "offline")):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert wandb_mode() == expected


def test_the_configuration_is_json_and_names_what_was_resolved(tmp_path: Path) -> None:
    method = build_method(SPEC, task_of(SPEC))
    found = json.loads(json.dumps(configuration(SPEC, method, CoNSeP(tmp_path))))
    assert found["run_id"] == SPEC.run_id
    assert found["recipe"]["phases"][0]["steps"] == 4
    assert found["recipe"]["phases"][0]["batch_size"] == method.recipe.phases[0].batch_size
    assert found["recipe"]["phases"][0]["schedule"] == repr(method.recipe.phases[0].schedule)
    assert found["data"]["nuclei"] == CoNSeP.card.nuclei


def test_tags_name_method_training_sets_and_protocol() -> None:
    assert tags(SPEC, build_method(SPEC, task_of(SPEC))) == ["dist", "kumar", "paper"]


def test_figures_of_different_methods_share_columns() -> None:
    target = Target("kumar")
    assert figures(target, "dist", "dist", {"aji": 0.5}) == {"kumar.test/aji": 0.5}
    assert figures(target, "unet-pp", "unet", {"aji": 0.5}) == {"kumar.test/unet-pp/aji": 0.5}


def test_fitted_parameters_come_with_their_score() -> None:
    stored = {"a": {"params": {"p": 1}, "trials": [{"p": 1, "score": 0.5}, {"p": 2, "score": 0.25}]}}
    assert fitted(stored) == ({"a": {"p": 1}}, {"validation/a/score": 0.5})
    stored["a"]["trials"] = []
    assert fitted(stored) == ({"a": {"p": 1}}, {})


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_a_panel_shows_annotation_left_and_prediction_right_in_the_colours_of_types() -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[10:30, 10:30] = 1
    truth = Instances((64, 64), labels=labels, types=np.array([1]))
    found = Instances((64, 64), labels=np.roll(labels, 20, axis=1), types=np.array([2]))
    picture = panel(Sample(np.full((64, 64, 3), 200, np.uint8), truth, "one", "one"), found, ("a", "b"))
    pixels = picture.pixels[24:]  # below the titles
    left, right = pixels[:, :128], pixels[:, -128:]
    assert {tuple(p) for p in left.reshape(-1, 3).tolist()} == {(200, 200, 200), color(1)}
    assert {tuple(p) for p in right.reshape(-1, 3).tolist()} == {(200, 200, 200), color(2)}
    columns = np.flatnonzero((right != 200).any(axis=(0, 2)))
    assert abs(columns[0] - 60) <= 1  # outlines lie where the nucleus is, twice enlarged
    assert abs(columns[-1] - 99) <= 1
    assert picture.caption == "one: annotation 1, prediction 1 nuclei"


def test_validation_tiles_are_parts_of_validation_images(tmp_path: Path) -> None:
    CoNSeP.write_synthetic(tmp_path, size=320)
    data = CoNSeP(tmp_path)
    tiles = validation_crops(data, "validation")
    names = {record.image_id for record in data.select("validation")}
    assert tiles
    assert {tile.image_id for tile in tiles} <= names
    assert all(tile.image.shape == (256, 256, 3) and tile.truth.count for tile in tiles)


# ---- loggers ---------------------------------------------------------------------------------------------------------


def test_short_trainings_are_logged_at_each_step() -> None:
    assert [log_interval(steps) for steps in (1, 3999, 4000, 20000, 10**6)] == [1, 1, 2, 10, 10]


def test_a_csv_file_goes_on_without_gap_or_double(tmp_path: Path) -> None:
    before = ContinuedCSVLogger(tmp_path, 0)
    before.go_on_from(0)
    for step in range(6):
        before.log_metrics({"loss": step / 2, "old": 1.0} if step % 2 else {"loss": step / 2}, step)
    before.save()

    after = ContinuedCSVLogger(tmp_path, 0)
    assert after.experiment is not None  # as Lightning asks for it, before training begins
    after.go_on_from(4)
    after.log_metrics({"loss": 2.0, "new": 3.0}, 4)
    after.save()
    rows = read_metrics(metrics_file(tmp_path, 0))
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[1] == {"step": 1, "loss": 0.5, "old": 1}
    assert rows[4] == {"step": 4, "loss": 2, "new": 3}

    fresh = ContinuedCSVLogger(tmp_path, 0)
    fresh.go_on_from(0)
    assert read_metrics(metrics_file(tmp_path, 0)) == []


def test_a_cut_off_csv_file_gives_the_rows_before(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("loss,step\n0.5,0\n0.25,1\n0.12x")
    assert read_metrics(tmp_path / "m.csv") == [{"loss": 0.5, "step": 0}, {"loss": 0.25, "step": 1}]
    assert read_metrics(tmp_path / "none.csv") == []


# ---- W&B itself ------------------------------------------------------------------------------------------------------


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], WandbDashboard]:
    """Makes loggers of offline W&B runs."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return lambda name: WandbDashboard(
        "offline", tmp_path / name, lambda: {"id": name, "name": name, "tags": ["x" * 99]}
    )


def test_a_logger_that_is_told_nothing_leaves_nothing(connect: Callable[[str], WandbDashboard], tmp_path: Path) -> None:
    connect("silent").close()
    assert not (tmp_path / "silent").exists()


def test_a_value_that_wandb_refuses_is_one_warning(
    connect: Callable[[str], WandbDashboard], capfd: pytest.CaptureFixture[str]
) -> None:
    logger = connect("refused")
    logger.log({"loss": 1.0}, 0)
    assert not logger.gone
    logger.tell(lambda: logger.experiment.log("no mapping"))
    assert logger.gone
    logger.log({"loss": 1.0}, 1)
    logger.close()
    (warning,) = capfd.readouterr().err.splitlines()
    assert "wandb sync" in warning


def test_the_death_of_wandbs_process_is_one_warning_and_the_next_run_has_a_new_one(
    connect: Callable[[str], WandbDashboard],
    tmp_path: Path,
    read_wandb: Callable[[Path], dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    logger = connect("killed")
    logger.log({"loss": 1.0}, 0)
    for pid in _children("wandb-core"):
        os.kill(pid, signal.SIGKILL)
    for step in range(1, 50):
        logger.log({"loss": 1.0}, step)
    logger.close()
    assert len(capfd.readouterr().err.splitlines()) == 1

    after = connect("after")
    after.log({"loss": 2.0}, 0)
    assert not after.gone
    after.close()
    (part,) = (tmp_path / "after/wandb").glob("offline-run-*")
    assert read_wandb(part)["history"][0]["loss"] == 2.0


def _children(name: str) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "comm").read_text()
        except OSError:
            continue
        if int(words[1]) == os.getpid() and command.startswith(name):
            found.append(int(status.parent.name))
    assert found
    return found
