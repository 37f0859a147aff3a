"""The real command line in subprocesses, from synthetic data to tables, killed and resumed on the way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import environment, nucbench, start
from scipy.io import loadmat
from shapely.geometry import shape

from benchmark.commands.cli import COMMANDS
from datamodules.reading.files import read_instances, write_mat
from datamodules.synthetic.images import generate

TRAIN = ["--options.features", "4", "--batch-size", "2", "--crop", "64", "--augment", "flips", "--no-progress"]


RUN = ["run", "dist", "synthetic", "--protocol", "strict", "--steps", "60", "--lr", "0.003", *TRAIN]


@pytest.fixture(scope="module")
def place(once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the synthetic dataset in data/, and a finished run in the strict protocol."""

    def fill(folder: Path) -> None:
        nucbench("prepare", "synthetic", "--synthetic", "--size", "128", folder=folder)
        assert "pq" in nucbench(*RUN, folder=folder).stdout

    return shutil.copytree(once("command-line", fill), tmp_path_factory.mktemp("user"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """The finished run."""
    (folder,) = (place / "runs/dist/synthetic").iterdir()
    return folder


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_quick_and_complete(command: str, tmp_path: Path) -> None:
    code = (
        "import sys, benchmark.commands.cli as cli\n"
        f"try: cli.main({[command, '--help'] if command else ['--help']!r})\n"
        "except SystemExit: pass\n"
        "print('HEAVY', [m for m in ('torch', 'numba', 'pandas', 'cv2', 'albumentations') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True, timeout=60
    )
    assert "HEAVY []" in done.stdout
    assert "usage: nucbench" in done.stdout
    assert ("examples:" if command else "hovernet") in done.stdout  # the methods are named


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "methods"],
        ["list", "methods", "nosuch"],
        ["run", "dits", "kumar"],
        ["run", "dist", "kumr"],
        ["predict", "default", "missing.png"],
        ["predict", "nosuch", "missing.png"],
        ["models"],
    ],
    ids=" ".join,
)
def test_lists_and_wrong_arguments_need_no_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, benchmark.commands.cli as cli\n"
        f"try: cli.main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print('HEAVY', [m for m in ('torch', 'numba', 'albumentations') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True, timeout=60,
        cwd=tmp_path,
    )  # fmt: skip
    assert "HEAVY []" in done.stdout


def test_run_leaves_a_complete_directory(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    assert record["protocol"] == "strict"
    assert record["training"]["steps"] == 60
    assert record["data"]["images"] == 8
    assert record["data"]["synthetic"] is False  # no stand-in of another dataset
    params = json.loads((run / "params.json").read_text())
    trials = params["dist"]["trials"]
    assert len(trials) == 6
    assert max(t["score"] for t in trials) == next(
        t["score"] for t in trials if {k: t[k] for k in ("p1", "p2")} == params["dist"]["params"]
    )
    scores = pd.read_csv(run / "evaluations/synthetic.test/dist/scores.csv")
    assert len(scores) == 4
    assert list(scores.columns[:8]) == ["image", "dice", "aji", "aji_plus", "dice2", "dq", "sq", "pq"]
    assert scores["dice"].mean() > 0.2  # it learnt something in 60 steps


def test_the_same_command_does_nothing_twice(run: Path, place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    nucbench(*RUN, folder=place)
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.slow
def test_killed_and_resumed_run_ends_with_the_same_files(place: Path, tmp_path: Path) -> None:
    command = ["run", "dist", "synthetic", "--seed", "5", "--steps", "40", "--crops-per-image", "1", *TRAIN]
    command += ["--data", str(place / "data")]
    nucbench(*command, folder=tmp_path)
    (whole,) = (tmp_path / "runs/dist/synthetic").iterdir()
    killed = tmp_path / "killed"
    killed.mkdir()
    process = start(*command, folder=killed, before="import benchmark.runs.phase_keeper as k; k.SAVE_SECONDS = 0")
    checkpoint = killed / whole.relative_to(tmp_path) / "checkpoints/phase0.ckpt"
    deadline = time.monotonic() + 200
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (checkpoint.parent / "done.json").exists(), "the run ended before it was killed"
    assert checkpoint.exists()
    nucbench(*command, folder=killed)
    resumed = killed / whole.relative_to(tmp_path)
    for name in ("evaluations/synthetic.test/dist/scores.csv", "params.json", "spec.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((resumed / "checkpoints/done.json").read_text())["steps"] == 40


def test_predict_writes_what_qupath_and_python_open(run: Path, place: Path) -> None:
    image = next((place / "data/synthetic/test").rglob("*.png"))
    done = nucbench("predict", run, image, "--out", "found", folder=place)
    assert "nuclei" in done.stdout
    labels = loadmat(place / "found" / f"{image.stem}.mat")["inst_map"]
    assert labels.shape == (128, 128)
    features = json.loads((place / "found" / f"{image.stem}.geojson").read_text())["features"]
    assert len(features) == len(np.unique(labels)) - 1
    for feature in features:
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.area == (labels == int(feature["properties"]["name"])).sum()
        assert feature["properties"]["objectType"] == "detection"
    assert (place / "found" / f"{image.stem}_overlay.png").stat().st_size > 0


def test_score_and_evaluate_agree(run: Path, place: Path) -> None:
    truth = place / "data/synthetic/test/Labels"
    folder = place / "theirs"
    folder.mkdir()
    for i, path in enumerate(sorted(truth.glob("*.mat"))):
        labels = read_instances(path).labels.copy()
        labels[labels == i + 1] = 0  # miss one nucleus
        np.save(folder / f"{path.stem}.npy", labels)
    nucbench("score", "--truth", truth, "--predictions", folder, "--out", "scores.csv", folder=place)
    scores = pd.read_csv(place / "scores.csv")
    assert list(scores.columns) == ["image", "dice", "aji", "aji_plus", "dice2", "dq", "sq", "pq"]
    assert scores["image"].iloc[-1] == "all"
    assert 0.9 < scores["pq"].iloc[-1] < 1
    name = "Their <b>method</b> [/y]"  # neither markup of HTML nor of the console
    done = nucbench("evaluate", "--predictions", folder, "--dataset", "synthetic", "--method", name, folder=place)
    assert "nucbench predict" not in done.stdout  # there is no model
    assert name in done.stdout
    (stored,) = place.glob("runs/their-b-method-b-y/*/*/evaluations/synthetic.test/*/scores.csv")
    np.testing.assert_allclose(pd.read_csv(stored)["pq"].mean(), scores["pq"].iloc[-1])


@pytest.mark.slow
def test_averaging_over_symmetries_reuses_the_training(run: Path, place: Path) -> None:
    """With --tta the weights are those of the run, the predictions are others, and the row has its own name."""
    done = nucbench(*RUN, "--tta", folder=place)
    assert f"weights of dist/synthetic/{run.name}" in done.stdout
    (other,) = set((place / "runs/dist/synthetic").iterdir()) - {run}
    records = [json.loads((folder / "record.json").read_text()) for folder in (run, other)]
    assert records[1]["training"] == records[0]["training"]
    assert records[1]["overrides"] == {**records[0]["overrides"], "tta": True}
    weights = [torch.load(folder / "checkpoints/final.pt", weights_only=True) for folder in (run, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert (other / "logs/phase0/metrics.csv").read_bytes() == (run / "logs/phase0/metrics.csv").read_bytes()
    nucbench("export", other, "--to", "averaging", folder=place)
    assert "tta: true" in (place / "averaging/model.yaml").read_text()
    found = []
    for number, (model, *more) in enumerate(((run,), (run, "--tta"), (other,), ("averaging",))):
        out = f"averaged-{number}"
        nucbench("predict", model, "data/synthetic/test/Images", "--out", out, *more, folder=place)
        found.append(loadmat(place / out / "test_01.mat")["inst_map"])
    assert not np.array_equal(found[0], found[1])
    assert np.array_equal(found[2], found[3])  # with other parameters than the run's: its own tuning averages too
    seen = nucbench("look", "data/synthetic/test/Images/test_01.png", "averaging", folder=place).stdout
    assert f"({found[3].max()})" in seen  # averaged, as by predict
    shutil.rmtree(other)  # other tests expect one run


def test_leaderboard_rebuilds_tables(run: Path, place: Path) -> None:
    done = nucbench("leaderboard", "segmentation", "--out", "tables", folder=place)
    assert {Path(line).name for line in done.stdout.split()} == {"segmentation.csv", "segmentation.md"}
    assert "0.597" in (place / "tables/segmentation.md").read_text()  # HoVer-Net's published PQ on Kumar


@pytest.mark.slow
def test_sweep_resumes_and_notes_failures(place: Path) -> None:
    (place / "small.yaml").write_text(
        "methods: [dist]\ndatasets: [synthetic]\nseeds: [0, 1]\noptions: {dist: {features: 4}}\n"
        "overrides: {steps: 3, batch_size: 2, crop: 64, augment: flips}\n"
    )
    dry = nucbench("sweep", "small.yaml", "--dry-run", "--runs", "swept", folder=place)
    assert dry.stdout.count("to do") == 2
    nucbench("sweep", "small.yaml", "--runs", "swept", "--no-progress", folder=place)
    again = nucbench("sweep", "small.yaml", "--dry-run", "--runs", "swept", folder=place)
    assert again.stdout.count(": done") == 2
    (place / "broken.yaml").write_text(
        "methods: [dist]\ndatasets: [kumar, synthetic]\noverrides: {steps: 1, crop: 64}\n"
    )
    broken = nucbench("sweep", "broken.yaml", "--runs", "swept", "--no-progress", folder=place, status=1)
    assert "1 of 2 runs done" in broken.stdout
    assert "failed: dist/kumar/" in broken.stdout
    (note,) = place.glob("swept/dist/kumar/*/failure.txt")
    assert "DataError" in note.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["run", "dits", "synthetic"], 2, "unknown method 'dits'. Did you mean 'dist'?"),
        (["run", "dist", "synthetics"], 2, "Did you mean 'synthetic'?"),
        (["run", "dist", "synthetic", "--options.featurs", "4"], 2, "Did you mean 'features'?"),
        (["run", "dist", "kumar"], 1, "expects its files in data/kumar"),
        (["run", "dist", "synthetic", "--evaluate", "synthetic.tests"], 2, "no split 'tests'"),
        (["run", "dist", "synthetic", "--protocol", "loose"], 2, "strict"),
        (["run", "dist", "synthetic", "--devices", "64"], 2, "64 devices"),
        (
            ["predict", "runs/nothing", "image.png"],
            2,
            "runs/nothing does not exist; give a run directory, a model folder",
        ),
        (["leaderboard", "segmentaton"], 2, "Did you mean 'segmentation'?"),
        (["prepare", "synthetic", "--synthetic"], 2, "is not empty"),
        (["sweep", "nothing.yaml"], 2, "demo.yaml"),
        (["score", "--truth", "nowhere", "--predictions", "nowhere"], 2, "nowhere"),
    ],
)
def test_errors_are_for_people(place: Path, arguments: list[str], status: int, expected: str) -> None:
    done = nucbench(*arguments, folder=place, status=status)
    assert expected in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["methods", "datasets", "tables", "runs"])
def test_lists(run: Path, place: Path, what: str) -> None:
    from benchmark.registry import DATASETS, METHODS, TABLES

    short = nucbench("list", what, folder=place).stdout
    for name in {"methods": METHODS, "datasets": DATASETS, "tables": TABLES, "runs": ()}[what]:
        assert name in short
    assert len(nucbench("list", what, "--verbose", folder=place).stdout) >= len(short)


def test_one_card_is_shown_by_its_name(place: Path) -> None:
    shown = nucbench("list", "methods", "dist", folder=place).stdout
    assert "10.1109/TMI.2018.2865709" in shown
    assert "option features = 32" in shown
    assert "stardist" not in shown
    assert "unknown dataset 'kumer'" in nucbench("list", "datasets", "kumer", folder=place, status=2).stderr
    assert "no runs in" in nucbench("list", "runs", "--runs", "nowhere", folder=place).stdout


def test_the_version_is_shown_and_the_package_runs(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "--version"],
        cwd=place, env=environment(), capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert done.stdout == f"nucbench {version('nucbench')}\n"


def test_a_training_set_is_no_path(place: Path, tmp_path: Path) -> None:
    done = nucbench(
        "evaluate", "--predictions", tmp_path, "--dataset", "synthetic", "--method", "X",
        "--trained-on", "../../../escaped", folder=place, status=2,
    )  # fmt: skip
    assert "cannot name a dataset" in done.stderr
    assert not list(place.parent.rglob("escaped"))


def test_two_processes_cannot_write_one_run(run: Path, place: Path) -> None:
    from filelock import FileLock

    with FileLock(run / ".lock"):
        done = nucbench(*RUN, folder=place, status=2)
    assert "another process is working on" in done.stderr


def timings(folder: Path) -> pd.DataFrame:
    """Read the only file of timings in a folder, which bears the name of the machine."""
    (path,) = (folder / "speed").glob("*torch-*.csv")
    frame = pd.read_csv(path)
    assert (frame["fastest_ms"] > 0).all()
    assert (frame["fastest_ms"] <= frame["median_ms"]).all()
    assert (frame["median_ms"] <= frame["slowest_ms"]).all()
    return frame


QUICK = ["--repeats", "1", "--out", "speed"]


def test_speed_of_a_method(tmp_path: Path) -> None:
    nucbench("speed", "dist", "--options.features", "4", "--sizes", "96", "--train", *QUICK, folder=tmp_path)
    jobs = [job.split(": ")[1] for job in timings(tmp_path)["job"]]
    assert jobs == ["network", "post-processing", "training step"]
    assert {path.name.split("_")[0] for path in (tmp_path / "speed").glob("*torch-*.csv")} == {"dist"}


@pytest.mark.slow
def test_speed_of_components(tmp_path: Path) -> None:
    done = nucbench("speed", "--sizes", "128", "--workers", "1", *QUICK, folder=tmp_path)
    assert "HoVer targets" in done.stdout
    components = timings(tmp_path)
    assert {path.name.split("_")[0] for path in (tmp_path / "speed").glob("*torch-*.csv")} == {"components"}
    assert {"training sample, dist", "training sample, dist: 1 workers"} <= set(components["job"])
    same = components[components["by"].str.startswith("torchmetrics")]
    assert (same["agreement"] < 1e-6).all()


def test_foreign_predictions_of_another_size_are_refused(place: Path, tmp_path: Path) -> None:
    for path in (place / "data/synthetic/test/Labels").glob("*.mat"):
        _, wrong = generate((100, 128), np.random.default_rng(0))
        write_mat(tmp_path / path.name, wrong)
    done = nucbench(
        "evaluate", "--predictions", tmp_path, "--dataset", "synthetic", "--method", "X", folder=place, status=1
    )
    assert "(100, 128)" in done.stderr
