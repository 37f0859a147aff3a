"""Runs mirrored to W&B and TensorBoard: what comes there, what happens without a network, and that nothing changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.host.machine import Machine
from benchmark.mirrors import connection
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.run import execute
from benchmark.sweeps.sweep import run_sweep
from datamodules.consep import CoNSeP
from datamodules.synthetic_sets import SyntheticDIST

Read = Callable[[Path], dict[str, Any]]
SMALL = Overrides(crop=64, batch_size=2, lr=0.003, steps=12, augment="flips", crops_per_image=2)
TRAIN = RunSpec("dist", "consep", "train", "strict", options={"features": 4}, overrides=SMALL)
CLASSICAL = RunSpec("fiji", "synthetic-dist")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small datasets in data/, one with types."""
    folder = tmp_path_factory.mktemp("user")
    CoNSeP.write_synthetic(folder / "data/consep", size=96)
    SyntheticDIST.write_synthetic(folder / "data/synthetic-dist", images=3, size=64)
    return folder


@pytest.fixture(scope="module", autouse=True)
def stranger(place: Path) -> Iterator[None]:
    """Let W&B know no account and write nothing outside `place`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("WANDB_HTTP_TIMEOUT", "3")
        patch.setenv("HOME", str(place / "home"))
        patch.setenv("NETRC", str(place / "home/netrc"))
        yield


def do(place: Path, spec: RunSpec, runs: str, *targets: str, wandb: str = "off", tensorboard: bool = False) -> Path:
    """Do a run as `nucbench run` does; return its directory."""
    machine = Machine(place / "data", place / runs, workers=0, progress=False, wandb=wandb, tensorboard=tensorboard)
    return execute(spec, [Target.parse(text) for text in targets or [spec.dataset]], machine).store.path


def parts(run: Path) -> list[Path]:
    return sorted(run.glob("wandb/offline-run-*"))


def stored(run: Path) -> dict[str, bytes]:
    names = ["params.json", *(str(p.relative_to(run)) for p in run.glob("evaluations/*/*/*"))]
    return {name: (run / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    """A finished run without any mirror."""
    return do(place, TRAIN, "plain")


@pytest.fixture(scope="module")
def mirrored(place: Path) -> Path:
    """The same run with both mirrors."""
    return do(place, TRAIN, "runs", wandb="offline", tensorboard=True)


def test_mirrors_change_no_result(plain: Path, mirrored: Path) -> None:
    assert stored(mirrored) == stored(plain)
    assert not (plain / "wandb").exists()
    assert not (plain / "mirror.json").exists()


def test_wandb_holds_settings_losses_figures_tables_and_pictures(mirrored: Path, read_wandb: Read) -> None:
    (part,) = parts(mirrored)
    found = read_wandb(part)
    run, config, history, summary = (found[key] for key in ("run", "config", "history", "summary"))
    assert run.run_id == json.loads((mirrored / "mirror.json").read_text())["wandb_id"]
    assert (run.project, run.run_group, run.job_type) == ("nucbench", "dist", "train")
    assert run.display_name == "/".join(mirrored.parts[-3:])
    assert list(run.tags) == ["dist", "consep", "strict"]
    assert found["exit"] == 0

    spec = json.loads((mirrored / "spec.json").read_text())
    assert {key: config[key] for key in spec if key != "format"} == {k: v for k, v in spec.items() if k != "format"}
    assert config["recipe"]["phases"][0]["steps"] == 12
    assert config["recipe"]["crop"] == 64
    assert config["card"]["title"] == "DIST"
    assert config["data"]["types"] == list(CoNSeP.card.types)
    assert config["environment"]["versions"]["torch"]
    fitted = json.loads((mirrored / "params.json").read_text())
    assert config["postprocessing"] == {variant: entry["params"] for variant, entry in fitted.items()}
    params = fitted["dist"]
    assert summary["validation/dist/score"] == max(trial["score"] for trial in params["trials"])

    rows = pd.read_csv(mirrored / "logs/phase0/metrics.csv")
    for name in ("train/loss_step", "lr", "val/loss"):
        told = {row["_step"]: row[name] for row in history if name in row}
        logged = rows.dropna(subset=[name]).set_index("step")[name]
        assert list(told) == list(logged.index), name
        np.testing.assert_allclose(list(told.values()), logged)
    assert sum("train/loss_step" in row for row in history) == 12
    assert [row["_step"] for row in history] == sorted(row["_step"] for row in history)

    scores = pd.read_csv(mirrored / "evaluations/consep.test/dist/scores.csv", dtype={"image": str})
    assert summary["consep.test/aji"] == pytest.approx(scores["aji"].mean())
    assert "consep.test/pq" in summary
    (path,) = (row["scores/consep.test/dist/path"] for row in history if "scores/consep.test/dist/path" in row)
    table = json.loads((part / "files" / path).read_text())
    pd.testing.assert_frame_equal(pd.DataFrame(table["data"], columns=table["columns"]), scores, check_dtype=False)

    for name in ("predictions/validation", "predictions/consep.test/dist"):
        files = [file for row in history for file in row.get(f"{name}/filenames", [])]
        assert files
        for file in files:
            with Image.open(part / "files" / file) as picture:
                assert picture.size[0] > 2 * 96
    looks = [row["_step"] for row in history if "predictions/validation/filenames" in row]
    assert looks[-1] == 12
    assert looks[:-1]  # also while it trains
    assert all(step < 12 for step in looks[:-1])


def test_tensorboard_holds_losses_figures_and_pictures(mirrored: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(mirrored / "logs/tensorboard")).Reload()
    rows = pd.read_csv(mirrored / "logs/phase0/metrics.csv")
    for name in ("train/loss_step", "lr", "val/loss"):
        logged = rows.dropna(subset=[name])
        told = events.Scalars(name)
        assert [each.step for each in told] == list(logged["step"])
        np.testing.assert_allclose([each.value for each in told], logged[name], rtol=1e-6)
    scores = pd.read_csv(mirrored / "evaluations/consep.test/dist/scores.csv")
    (aji,) = events.Scalars("consep.test/aji")
    assert aji.value == pytest.approx(scores["aji"].mean(), rel=1e-6)
    assert "predictions/consep.test/dist/0" in events.Tags()["images"]


@pytest.mark.slow
def test_what_is_shown_is_not_shown_again(place: Path, mirrored: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mirrored.rglob("*") if path.is_file() and path.name != ".lock"}
    do(place, TRAIN, "runs", wandb="offline", tensorboard=True)
    assert before == {p: p.stat().st_mtime_ns for p in mirrored.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.slow
def test_a_finished_run_is_shown_when_it_is_asked_for_again(
    place: Path, plain: Path, mirrored: Path, read_wandb: Read
) -> None:
    do(place, TRAIN, "plain", wandb="offline")
    (part,) = parts(plain)
    late, live = read_wandb(part), read_wandb(parts(mirrored)[0])
    assert late["run"].run_id != live["run"].run_id  # one spec, two run directories
    for name in ("train/loss_step", "lr", "val/loss"):
        losses = [{row["_step"]: row[name] for row in each["history"] if name in row} for each in (late, live)]
        assert losses[0] == pytest.approx(losses[1])
    figures = [{k: v for k, v in each["summary"].items() if k.startswith("consep.")} for each in (late, live)]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_a_killed_run_goes_on_in_its_own_wandb_run(place: Path, read_wandb: Read) -> None:
    steps = 100
    overrides = {**SMALL.given(), "steps": steps}
    options = ["--seed", "3", "--options.features", "4", "--runs", "killed", "--no-progress", "--workers", "0"]
    options += [word for name, value in overrides.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = ["run", "dist", "consep", *options]  # offline is the default
    code = (
        "import benchmark.runs.phase_keeper as k; k.SAVE_SECONDS = 0; import benchmark.commands.cli as c; c.main("
        + f"{command!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=place)
    end = time.monotonic() + 150
    while time.monotonic() < end and process.poll() is None:
        written = any(path.stat().st_size > 8000 for path in place.glob("killed/*/*/*/wandb/offline-run-*/*.wandb"))
        if written and list(place.glob("killed/*/*/*/checkpoints/phase0.ckpt")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(place.glob("killed/*/*/*/checkpoints/done.json")), "the run ended before it was killed"
    time.sleep(1.1)  # the folders of W&B are named by the second

    spec = RunSpec("dist", "consep", seed=3, options={"features": 4}, overrides=Overrides(**overrides))
    run = do(place, spec, "killed", wandb="offline")
    found = [read_wandb(part) for part in parts(run)]
    assert len(found) == 2
    assert len({each["run"].run_id for each in found}) == 1
    assert found[0]["history"]
    told = [row["_step"] for row in found[1]["history"] if "train/loss_step" in row]
    assert told[0] > 0  # from the checkpoint on
    assert told == list(range(told[0], steps))
    rows = pd.read_csv(run / "logs/phase0/metrics.csv").dropna(subset=["train/loss_step"])
    assert list(rows["step"]) == list(range(steps))  # nothing lost, nothing twice


@pytest.mark.slow
def test_sweeps_are_groups_also_in_other_processes(place: Path, read_wandb: Read) -> None:
    machine = Machine(place / "data", place / "swept", workers=0, progress=False, wandb="offline")
    (place / "one.yaml").write_text("methods: [fiji]\ndatasets: [synthetic-dist]\n")
    assert run_sweep(place / "one.yaml", machine, executor="local") == 0
    (place / "two.yaml").write_text("methods: [fiji, qupath]\ndatasets: [synthetic-dist]\nseeds: [0, 1]\n")
    assert run_sweep(place / "two.yaml", machine) == 0
    found = [read_wandb(part) for part in place.glob("swept/*/*/*/wandb/offline-run-*")]
    assert sorted(each["run"].run_group for each in found) == ["one", "two", "two", "two"]
    assert len({each["run"].run_id for each in found}) == 4
    assert {each["run"].job_type for each in found} == {"evaluate"}
    assert sorted(each["run"].tags[0] for each in found) == ["fiji", "fiji", "qupath", "qupath"]


def test_the_leaderboard_is_an_artifact(place: Path, read_wandb: Read) -> None:
    command = ["leaderboard", "segmentation", "--runs", "board", "--out", "tables", "--wandb", "offline"]
    code = (
        "import sys, benchmark.commands.cli as cli; "
        f"assert cli.main({command!r}) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=place, check=True, timeout=100)
    (part,) = place.glob("board/leaderboard/wandb/offline-run-*")
    found = read_wandb(part)
    (artifact,) = (each for each in found["artifacts"] if each.type == "leaderboard")
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert {name: path.read_bytes() for name, path in files.items()} == {
        f"segmentation.{kind}": (place / f"tables/segmentation.{kind}").read_bytes() for kind in ("csv", "md")
    }
    (row,) = found["history"]
    table = json.loads((part / "files" / row["leaderboard/segmentation/path"]).read_text())
    assert len(table["data"]) == len(pd.read_csv(place / "tables/segmentation.csv"))


# ---- without a server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(place: Path) -> dict[str, bytes]:
    """What a run without a mirror stores."""
    return stored(do(place, CLASSICAL, "alone"))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Gives an account on a server, and little patience."""
    monkeypatch.setattr(connection, "INIT_SECONDS", 3.0)
    monkeypatch.setattr(connection, "FINISH_SECONDS", 3.0)

    def use(url: str, key: str = "0123456789" * 4) -> None:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        connection.end_service()  # it remembers the variables

    yield use
    connection.end_service()


@pytest.mark.parametrize(("key", "reason"), [("0123456789" * 4, "connection refused"), ("", "wandb login")])
@pytest.mark.slow
def test_without_server_or_account_a_run_is_mirrored_offline(
    place: Path,
    expected: dict[str, bytes],
    key: str,
    reason: str,
    account: Callable[..., None],
    read_wandb: Read,
    capfd: pytest.CaptureFixture[str],
) -> None:
    account("http://127.0.0.1:9", key)
    began = time.monotonic()
    run = do(place, CLASSICAL, "closed" if key else "keyless", wandb="online")
    assert time.monotonic() - began < 30
    assert stored(run) == expected
    (part,) = parts(run)
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("W&B: cannot go online")
    assert reason in warning
    assert f"wandb sync {part}" in warning
    assert "synthetic-dist.test/aji" in read_wandb(part)["summary"]


@pytest.mark.slow
def test_online_a_server_is_told_everything(
    place: Path, expected: dict[str, bytes], server: Any, account: Callable[..., None]
) -> None:
    account(server.url)
    run = do(place, CLASSICAL, "online", wandb="online")
    assert stored(run) == expected
    assert server.runs == {json.loads((run / "mirror.json").read_text())["wandb_id"]}
    assert any("scores/synthetic-dist.test/fiji" in row for row in server.history)


@pytest.mark.slow
def test_a_server_that_dies_stops_no_run(
    place: Path,
    expected: dict[str, bytes],
    server: Any,
    account: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    account(server.url)
    server.last = "UpsertBucket"  # the last thing that it answers
    began = time.monotonic()
    run = do(place, CLASSICAL, "dying", wandb="online")
    assert time.monotonic() - began < 30
    assert stored(run) == expected
    assert server.asked[-1] == "UpsertBucket"
    (folder,) = run.glob("wandb/run-*")
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("W&B: gives up")
    assert f"wandb sync {folder}" in warning


@pytest.mark.slow
def test_a_crash_of_wandb_stops_no_run_and_not_the_next_mirror(
    place: Path, expected: dict[str, bytes], server: Any, account: Callable[..., None]
) -> None:
    account(server.url)
    server.nonsense = "CreateRunFiles"  # W&B's own process dies of it
    assert stored(do(place, CLASSICAL, "mad", wandb="online")) == expected
    after = do(place, CLASSICAL, "after", wandb="offline")
    assert stored(after) == expected
    assert len(parts(after)) == 1


@pytest.mark.slow
def test_both_parts_of_a_run_go_to_one_wandb_run(place: Path, server: Any) -> None:
    run = do(place, CLASSICAL, "parts", wandb="offline")
    time.sleep(1.1)
    do(place, CLASSICAL, "parts", "synthetic-dist", "synthetic-dist.train", wandb="offline")
    found = parts(run)
    assert len(found) == 2
    command = [sys.executable, "-m", "wandb", "sync", *map(str, found)]
    env = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0123456789" * 4}
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=100)
    assert len(server.runs) == 1
    steps = [row["_step"] for row in server.history]
    assert len(steps) == 2
    assert steps[0] < steps[1]  # the second part stands behind the first


def test_without_wandb_a_run_says_so_and_goes_on(
    place: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert stored(do(place, CLASSICAL, "without", wandb="offline")) == expected
    (warning,) = capfd.readouterr().err.splitlines()
    assert "pip install wandb" in warning
