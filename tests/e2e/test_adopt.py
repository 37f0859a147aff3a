"""`nucbench adopt`: weights trained elsewhere become a run that every other command takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from command_line import nucbench
from published_hovernet import PublishedNetwork, published_state, write_published

from benchmark.inference.trained import Trained
from benchmark.runs.trained import load_trained
from datamodules.kumar import Kumar
from leaderboards.records import load_scores
from models.base.method import Task
from models.dist import DIST
from models.hovernet import HoVerNet

pytestmark = pytest.mark.slow

TYPES = ("a", "b", "c", "d")
SIZE = ("--synthetic", "--size", "128")


@pytest.fixture(scope="module")
def place(once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with synthetic stand-ins of Kumar and CoNSeP in data/."""

    def fill(folder: Path) -> None:
        for name in ("kumar", "consep"):
            nucbench("prepare", name, *SIZE, folder=folder)

    return shutil.copytree(once("adopt", fill), tmp_path_factory.mktemp("user"), dirs_exist_ok=True)


def adopt(place: Path, *words: str | Path, status: int = 0) -> str:
    done = nucbench("adopt", *words, "--no-progress", folder=place, status=status)
    return done.stdout if status == 0 else done.stderr


def run_of(place: Path, group: str) -> Path:
    (found,) = (place / "runs" / group).iterdir()
    return found


def logits(trained: Trained, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return dict(trained.method(trained.method.prepare(images)))


def test_a_published_file_becomes_a_run_for_every_command(place: Path) -> None:
    state = published_state("fast")
    write_published(place / "hovernet_fast_x_notype_tf2pytorch.tar", state)
    words = ("hovernet", "hovernet_fast_x_notype_tf2pytorch.tar", "--trained-on", "kumar")
    out = adopt(place, *words, "--evaluate", "kumar", "--note", "released by the authors", "--licence", "MIT")
    assert "left out: upsample2x.unpool_mat" in out
    assert "kumar.test" in out
    run = run_of(place, "hovernet/kumar")
    assert run.name.startswith("external-s0-")
    record = json.loads((run / "record.json").read_text())
    assert (record["source"], record["protocol"], record["note"]) == ("adopted", "external", "released by the authors")
    assert record["training"]["steps"] is None
    assert record["options"] == {"features": 8, "mode": "fast"}
    assert record["adopted"]["left_out"] == ["upsample2x.unpool_mat"]
    assert record["adopted"]["tensors"] == len(state) - 1
    assert record["magnification"] == 40

    trained = load_trained(run)
    images = torch.randint(0, 256, (1, 3, 112, 112), dtype=torch.uint8)
    with torch.no_grad():
        expected = PublishedNetwork(state)(images.float())
    for name, value in logits(trained, images).items():
        torch.testing.assert_close(value.cpu(), expected[name], rtol=1e-3, atol=1e-3 * float(expected[name].std()))

    # the same command with other sets evaluates those too, and keeps what is stored
    scores = run / "evaluations/kumar.test/hovernet/scores.csv"
    before = scores.stat().st_mtime_ns
    adopt(place, *words, "--evaluate", "kumar", "kumar.train", "--note", "released by the authors")
    assert run_of(place, "hovernet/kumar") == run
    assert scores.stat().st_mtime_ns == before
    adopt(place, *words)  # without the options
    record = json.loads((run / "record.json").read_text())
    assert (record["note"], record["adopted"]["licence"]) == ("released by the authors", "MIT")
    assert json.loads((run / "evaluations/kumar.train/hovernet/evaluation.json").read_text())["seen"] > 0

    image = sorted((place / "data/kumar").rglob("*.tif"))[0]
    assert image.name in nucbench("predict", run, image, "--no-progress", folder=place).stdout
    nucbench("export", run, "--to", "model", folder=place)
    card = (place / "model/card.md").read_text()
    assert "trained elsewhere: hovernet_fast_x_notype_tf2pytorch.tar" in card
    assert "licence of the weights: unknown" not in card
    assert "nuclei" in nucbench("predict", "model", image, "--out", "other", "--no-progress", folder=place).stdout
    assert "trained" in nucbench("list", "runs", folder=place).stdout


def test_tables_and_report_name_it(place: Path) -> None:
    run = run_of(place, "hovernet/kumar")
    # the stand-ins are synthetic, which `publish` refuses
    assert "synthetic" in nucbench("publish", run, "--store", "scores", folder=place, status=2).stderr
    for file in run.glob("evaluations/*/*/evaluation.json"):
        file.write_text(file.read_text().replace('"synthetic": true', '"synthetic": false'))
    nucbench("publish", run, "--store", "scores", folder=place)
    (facts,) = load_scores([place / "scores"]).drop_duplicates("run_id")[["title", "source", "weights"]].to_numpy()[:1]
    assert list(facts[:2]) == ["HoVer-Net (fast mode)", "adopted"]
    assert facts[2].startswith("hovernet_fast_x_notype_tf2pytorch.tar (sha256 ")
    nucbench("leaderboard", "segmentation", "--runs", "runs", "--out", "tables", folder=place)
    frame = pd.read_csv(place / "tables/segmentation.csv")
    ours = frame[frame["source"] == "adopted"].dropna(subset=["ours"])
    assert len(ours)
    assert set(ours["protocol"]) == {"external"}
    text = (place / "tables/segmentation.md").read_text()
    assert "trained elsewhere on kumar.train" in text
    assert "released by the authors" in text
    nucbench("report", "--out", "report", "--data", "data", folder=place)
    pages = "".join(page.read_text() for page in (place / "report").rglob("*.html"))
    assert "released by the authors" in pages
    assert "adopted weights" in pages


def test_types_are_mapped_by_name(place: Path) -> None:
    state = published_state("fast", 5, seed=1)
    write_published(place / "typed.tar", state)
    order = ("spindle-shaped", "epithelial", "miscellaneous", "inflammatory")
    out = adopt(place, "hovernet", "typed.tar", "--trained-on", "consep", "--types", *order, "--evaluate", "consep")
    assert "types in the order of the model: miscellaneous, inflammatory, epithelial, spindle-shaped" in out
    run = run_of(place, "hovernet/consep")
    weight = torch.load(run / "checkpoints/final.pt", weights_only=True)["network.decoders.tp.out.weight"]
    assert torch.equal(weight, state["decoder.tp.u0.conv.weight"][[0, 3, 4, 2, 1]])
    evaluation = json.loads((run / "evaluations/consep.test/hovernet/evaluation.json").read_text())
    assert evaluation["types"] == ["miscellaneous", "inflammatory", "epithelial", "spindle-shaped"]


def test_unwanted_types_are_dropped_and_named(place: Path) -> None:
    write_published(place / "typed.tar", published_state("fast", 5, seed=1))
    for words in (("--trained-on", "cpm17"), ("--trained-on", "glysac", "--options.classify", "false")):
        out = adopt(place, "hovernet", "typed.tar", *words)
        assert "decoder.tp" in out
        assert "left out" in out
        assert load_trained(run_of(place, f"hovernet/{words[1]}")).method.task.types == ()


def test_a_training_set_of_elsewhere_keeps_its_types(place: Path) -> None:
    write_published(place / "typed.tar", published_state("fast", 5, seed=1))
    out = adopt(place, "hovernet", "typed.tar", "--trained-on", "elsewhere-typed", "--types", *TYPES, "--mpp", "0.25")
    assert "types in the order of the model: a, b, c, d" in out
    trained = load_trained(run_of(place, "hovernet/elsewhere-typed"))
    assert (trained.method.task, trained.magnification) == (Task(TYPES, 0.25), 40)
    assert trained.trained_on == ("elsewhere-typed.train",)


def test_a_lightning_checkpoint_brings_its_options(place: Path) -> None:
    torch.manual_seed(0)
    method = DIST(Task((), 0.5), features=2, target="normalised")
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(method)
    trainer.save_checkpoint(place / "mine.ckpt")
    adopt(place, "dist", "mine.ckpt", "--trained-on", "elsewhere", "--protocol", "strict")
    run = run_of(place, "dist/elsewhere")
    assert run.name.startswith("strict-s0-")
    assert json.loads((run / "record.json").read_text())["options"] == {"features": 2, "target": "normalised"}
    trained = load_trained(run)
    assert trained.magnification == 20
    for name, value in method.state_dict().items():
        assert torch.equal(trained.method.state_dict()[name].cpu(), value)
    error = adopt(place, "dist", "mine.ckpt", "--trained-on", "x", "--options.features", "4", status=2)
    assert "--options.features is 4, but mine.ckpt has features=2" in error


def test_a_plain_state_needs_its_options(place: Path) -> None:
    torch.manual_seed(0)
    method = HoVerNet(Task(TYPES), mode="fast", features=8, weights="none")
    torch.save(method.state_dict(), place / "plain.pt")
    words = ("hovernet", "plain.pt", "--trained-on", "own", "--options.mode", "fast", "--types", *TYPES)
    assert "of another shape" in adopt(place, *words, "--options.features", "16", status=1)
    adopt(place, *words, "--options.features", "8")
    trained = load_trained(run_of(place, "hovernet/own"))
    for name, value in method.state_dict().items():
        assert torch.equal(trained.method.state_dict()[name].cpu(), value)


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (("hovernet", "none.tar", "--trained-on", "kumar"), 2, "none.tar does not exist"),
        (("hovernet", "typed.tar", "--trained-on", "glysac"), 2, "4 nucleus types, but none are named"),
        (("hovernet", "typed.tar", "--trained-on", "glysac", "--types", "a", "b"), 2, "4 nucleus types, but 2"),
        (("hovernet", "typed.tar", "--trained-on", "x", "--types", "a", "a", "b", "c"), 2, "names a type twice"),
        (
            ("hovernet", "typed.tar", "--trained-on", "consep", "--types", "spindel", "epithelial", "other", "x"),
            2,
            "Did you mean 'spindle-shaped'",
        ),
        (("hovernet", "plain.tar", "--trained-on", "kumar", "--types", "a"), 2, "leave out --types"),
        (("hovernet", "plain.tar", "--trained-on", "kumar", "--options.mode", "original"), 2, "has mode=fast"),
        (("hovernet", "plain.tar", "--trained-on", "kumar", "--options.weights", "none"), 2, "leave out --options.w"),
        (("hovernet", "plain.tar", "--trained-on", "a/b"), 2, "cannot name a dataset"),
        (("hovernet", "plain.tar", "--trained-on", "Kumar"), 2, "Did you mean 'kumar'"),
        (("hovernet", "plain.tar", "--trained-on", "kumar", "--note", "a\x1b[31m"), 2, "without control characters"),
        (("pangnet", "plain.tar", "--trained-on", "kumar", "--types", "a"), 2, "pangnet predicts no types"),
        (("pangnet", "far.ckpt", "--trained-on", "x"), 1, "magnification is -5.0, expected a number from 1 to 200"),
        (("pangnet", "text.ckpt", "--trained-on", "x"), 1, "task is 'foo', expected a Task"),
        (("pangnet", "bad.ckpt", "--trained-on", "x"), 1, "hyper_parameters: task: mpp is 'y'"),
        (("hovernet", "plain.tar", "--trained-on", "kumar.tets"), 2, "Did you mean 'test'"),
        (("hovernet", "plain.tar", "--trained-on", "kumar", "--evaluate", "kumarr"), 2, "Did you mean 'kumar'"),
        (("dist", "plain.tar", "--trained-on", "kumar"), 1, ": conv0./.weight"),
        (("qupath", "plain.tar", "--trained-on", "kumar"), 2, "trains nothing"),
        (("hovernet", "lacking.tar", "--trained-on", "kumar"), 1, "network.bottleneck.weight"),
        (("hovernet", "infinite.tar", "--trained-on", "kumar"), 1, "not finite (1): conv0.bn.running_var"),
        (("hovernet", "more.tar", "--trained-on", "kumar"), 1, "decoder.np.u0.more"),
    ],
)
def test_what_cannot_work_is_one_line(place: Path, words: tuple[str, ...], status: int, named: str) -> None:
    state = published_state("fast")
    files = {
        "plain.tar": state,
        "typed.tar": published_state("fast", 5, seed=1),
        "lacking.tar": {name: value for name, value in state.items() if name != "conv_bot.weight"},
        "infinite.tar": state | {"conv0.bn.running_var": torch.full((8,), torch.nan)},
        "more.tar": state | {"decoder.np.u0.more": torch.zeros(1)},
    }
    if words[1] in files:
        write_published(place / words[1], files[words[1]])
    checkpoints: dict[str, dict[str, Any]] = {
        "far.ckpt": {"magnification": -5.0},
        "text.ckpt": {"hyper_parameters": {"task": "foo"}},
        "bad.ckpt": {"hyper_parameters": {"task": Task((), "y")}},  # type: ignore[arg-type]  # the point of the test
    }
    if words[1] in checkpoints:
        torch.save({"state_dict": state, **checkpoints[words[1]]}, place / words[1])
    before = sorted((place / "runs").rglob("*")) if (place / "runs").exists() else []
    error = adopt(place, *words, status=status)
    assert named in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) <= 2
    assert (sorted((place / "runs").rglob("*")) if (place / "runs").exists() else []) == before


def test_code_in_a_file_is_not_run(place: Path) -> None:
    torch.save({"desc": Kumar}, place / "code.tar")
    assert "refused" in adopt(place, "hovernet", "code.tar", "--trained-on", "kumar", status=1)
