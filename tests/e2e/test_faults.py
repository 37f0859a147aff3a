"""What goes wrong on real machines: kills, signals, full disks, broken files, no memory, clocks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import command_line
import pytest
import torch
from command_line import Started, environment, wait_until

from benchmark.mirrors.training import metrics_file, read_metrics
from datamodules.synthetic_sets import Synthetic

SMALL = ("--options.features", "2", "--batch-size", "2", "--crop", "48", "--crops-per-image", "8", "--augment", "flips")
TRAINED = ("run", "dist", "synthetic", *SMALL, "--workers", "0", "--no-progress", "--wandb", "off")
CLASSICAL = ("run", "fiji", "synthetic", "--workers", "0", "--no-progress", "--wandb", "off")


@pytest.fixture(scope="module")
def data(once: Callable[..., Path]) -> Path:
    return once("faults-data", lambda folder: Synthetic.write_synthetic(folder / "synthetic", size=64))


def nucbench(
    *arguments: str | Path, data: Path, runs: Path, status: int = 0, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command line; `before` is Python that is run first in its process."""
    words = (*arguments, "--data", data, "--runs", runs)
    return command_line.nucbench(*words, folder=data, status=status, before=before)


def start(*arguments: str | Path, data: Path, runs: Path, before: str = "") -> Started:
    return command_line.start(*arguments, "--data", data, "--runs", runs, folder=data, before=before)


def run_folder(runs: Path) -> Path:
    (record,) = runs.glob("*/*/*/spec.json")
    return record.parent


def results(runs: Path) -> dict[str, bytes]:
    """Return the files of the only run that its result consists of, but for times and what the curves show."""
    folder = run_folder(runs)
    kept = ("checkpoints/final.pt", "params.json", "spec.json", "predictions/**/*.npz", "evaluations/**/*.csv")
    found = {str(path.relative_to(folder)): path.read_bytes() for each in kept for path in folder.glob(each)}
    assert any(name.startswith("evaluations") for name in found)
    assert not list(folder.rglob(".*.part")), "half-written files are left"
    return found


@pytest.fixture(scope="module")
def whole(data: Path, once: Callable[..., Path]) -> dict[str, bytes]:
    """The results of a trained run that nothing went wrong with."""
    return results(once("faults-whole", lambda runs: nucbench(*TRAINED, "--steps", "40", data=data, runs=runs)))


class TestKills:
    """Nothing that a process has written is lost when it is killed, and nothing is half-written."""

    @pytest.mark.parametrize(
        ("command", "files"),
        [
            (
                (*TRAINED, "--protocol", "strict", "--steps", "4"),
                {"phase0.ckpt", "phase0.pt", "final.pt", "done.json", "params.json", "record.json", "evaluation.json"},
            ),
            (CLASSICAL, {"params.json", "record.json", "scores.csv", "evaluation.json"}),
        ],
        ids=["trained", "classical"],
    )
    @pytest.mark.slow
    def test_killed_before_every_file_that_it_writes(
        self, data: Path, tmp_path: Path, command: Sequence[str], files: set[str]
    ) -> None:
        nucbench(*command, data=data, runs=tmp_path / "whole")
        killer = Path(__file__).with_name("kill_at_every_write.py")
        words = [*command, "--data", str(data), "--runs", str(tmp_path / "killed")]
        done = subprocess.run(
            [sys.executable, str(killer), *words],
            cwd=tmp_path, env=environment(PYTHONPATH=str(Path(__file__).parents[2])),
            capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        written = done.stdout.splitlines()
        assert files <= set(written)
        variants = 2 if "dist" in command else 1
        assert sum(name.endswith(".npz") for name in written) == 4 * variants
        assert results(tmp_path / "killed") == results(tmp_path / "whole")

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [3, 32], ids=["inside an epoch", "at its end"])
    def test_killed_right_after_a_checkpoint(self, data: Path, tmp_path: Path, number: int) -> None:
        command = (*TRAINED, "--steps", "40")
        every_step = "import os, benchmark.runs.phase_keeper as k; k.SAVE_SECONDS = 0\n"
        killer = (
            "save, written = k.AtomicCheckpointIO.save_checkpoint, []\n"
            "def dying(self, *args, **kwargs):\n"
            "    save(self, *args, **kwargs); written.append(1)\n"
            f"    if len(written) == {number}: os.kill(os.getpid(), 9)\n"
            "k.AtomicCheckpointIO.save_checkpoint = dying"
        )
        nucbench(*command, data=data, runs=tmp_path / "whole", before=every_step)
        nucbench(*command, data=data, runs=tmp_path / "killed", before=every_step + killer, status=-9)
        nucbench(*command, data=data, runs=tmp_path / "killed", before=every_step)
        logs = {name: read_metrics(metrics_file(run_folder(tmp_path / name), 0)) for name in ("whole", "killed")}
        steps = [[int(row["step"]) for row in logs[name] if "train/loss_step" in row] for name in logs]
        assert steps == [list(range(40))] * 2
        loss = "train/loss_epoch"
        epochs = [[row["step"] for row in logs[name] if loss in row] for name in logs]
        assert epochs == [[31, 39]] * 2
        losses = [[row["train/loss_step"] for row in logs[name] if "train/loss_step" in row] for name in logs]
        assert losses[0] == losses[1]


class TestSignals:
    """A process that is asked to stop while it trains writes a checkpoint of the step it is in."""

    @pytest.mark.slow
    def test_stopped_again_and_again(self, data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
        never = "import benchmark.runs.phase_keeper as k; k.SAVE_SECONDS = 1e9"
        steps = [0]
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            process = start(*TRAINED, "--steps", "40", data=data, runs=tmp_path, before=never)
            wait_for_training(process, tmp_path, since=steps[-1])
            process.send_signal(number)
            output = "".join(process.communicate(timeout=120))
            assert process.returncode == 128 + number, output
            assert f"{number.name}: stopping after this step" in output
            assert "run the same command to resume" in output
            assert "Traceback" not in output
            state = torch.load(run_folder(tmp_path) / "checkpoints/phase0.ckpt", weights_only=True)
            steps.append(state["global_step"])
            assert state["callbacks"]["PhaseKeeper"]["batches"] == steps[-1] % 32, "in the middle of an epoch"
        assert steps == sorted(set(steps)), "each process got further than the one before"
        nucbench(*TRAINED, "--steps", "40", data=data, runs=tmp_path)
        assert results(tmp_path) == whole

    def test_stopped_outside_of_training(self, data: Path, tmp_path: Path) -> None:
        slow = "import time, benchmark.runs.evaluate as e, benchmark.runs.run as r\n"
        slow += "r.evaluate = lambda *a, **k: (print('scoring', flush=True), time.sleep(60))"
        process = start(*CLASSICAL, data=data, runs=tmp_path, before=slow)
        wait_until(lambda: "scoring" in process.output(), process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM
        assert errors == "nucbench: stopped by SIGTERM; run the same command to resume\n"
        nucbench(*CLASSICAL, data=data, runs=tmp_path)
        assert "evaluations/synthetic.test/fiji/scores.csv" in results(tmp_path)

    @pytest.mark.slow
    def test_sweep_in_processes_stops_its_runs(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "sweep.yaml").write_text(
            "methods: [dist]\ndatasets: [synthetic]\nseeds: [0, 1]\noptions: {dist: {features: 2}}\n"
            "overrides: {steps: 5000, batch_size: 2, crop: 48, augment: flips}\n"
        )
        command = ("sweep", tmp_path / "sweep.yaml", "--executor", "local", "--processes", "2", "--wandb", "off")
        process = start(*command, data=data, runs=tmp_path)
        wait_until(lambda: len(list(tmp_path.glob("dist/*/*/logs/phase0"))) == 2, process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGTERM
        assert "Traceback" not in errors
        assert len(list(tmp_path.glob("dist/*/*/checkpoints/phase0.ckpt"))) == 2
        assert not list(tmp_path.glob("dist/*/*/failure.txt")), "a run that was stopped has not failed"


def wait_for_training(process: Started, runs: Path, since: int) -> None:
    """Wait until a process trains: it has told its loggers so, anew where it goes on from `since` steps."""
    started = time.time()
    wait_until(lambda: any(p.stat().st_mtime > started for p in runs.glob("*/*/*/logs/*/*")), process)


class TestBrokenFiles:
    """A file that was damaged is named, with the way on."""

    @pytest.mark.slow
    def test_truncated_checkpoint(self, data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
        stop = (
            "import benchmark.runs.phase_keeper as k; k.SAVE_SECONDS = 0; save = k.PhaseKeeper._pause\n"
            "def pause(self, trainer):\n"
            "    save(self, trainer)\n"
            "    if trainer.global_step == 7: raise SystemExit(9)\n"
            "k.PhaseKeeper._pause = pause"
        )
        nucbench(*TRAINED, "--steps", "40", data=data, runs=tmp_path, before=stop, status=9)
        checkpoint = run_folder(tmp_path) / "checkpoints/phase0.ckpt"
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
        done = nucbench(*TRAINED, "--steps", "40", data=data, runs=tmp_path, status=1)
        assert str(checkpoint) in done.stderr
        assert "Delete it" in done.stderr
        assert "Traceback" not in done.stderr
        checkpoint.unlink()
        nucbench(*TRAINED, "--steps", "40", data=data, runs=tmp_path)
        assert results(tmp_path) == whole

    def test_truncated_weights_predictions_and_scores(self, data: Path, tmp_path: Path) -> None:
        nucbench(*TRAINED, "--steps", "2", data=data, runs=tmp_path)
        before = results(tmp_path)
        folder = run_folder(tmp_path)
        for pattern in ("checkpoints/final.pt", "predictions/*/dist/test_02.npz"):
            (path,) = folder.glob(pattern)
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            shutil.rmtree(folder / "evaluations")
            done = nucbench(*TRAINED, "--steps", "2", data=data, runs=tmp_path, status=1)
            assert str(path) in done.stderr
            assert "Traceback" not in done.stderr
            path.write_bytes(content)
            nucbench(*TRAINED, "--steps", "2", data=data, runs=tmp_path)
            assert results(tmp_path) == before

    def test_image_that_cannot_be_read_in_the_middle(self, data: Path, tmp_path: Path) -> None:
        broken = tmp_path / "data"
        shutil.copytree(data, broken)
        nucbench(*CLASSICAL, data=broken, runs=tmp_path / "whole")
        image = sorted(path for path in broken.rglob("*test_03*") if path.suffix == ".png")[0]
        content = image.read_bytes()
        image.write_bytes(content[:100])
        done = nucbench(*CLASSICAL, data=broken, runs=tmp_path / "runs", status=1)
        assert image.name in done.stderr
        assert "Traceback" not in done.stderr
        assert len(list(run_folder(tmp_path / "runs").glob("predictions/**/*.npz"))) >= 2, "those before it are kept"
        image.write_bytes(content)
        nucbench(*CLASSICAL, data=broken, runs=tmp_path / "runs")
        assert results(tmp_path / "runs") == results(tmp_path / "whole")

    def test_loss_that_is_not_a_number(self, data: Path, tmp_path: Path) -> None:
        bad = (*TRAINED, "--steps", "40", "--lr", "1e30")
        save = "import benchmark.runs.phase_keeper as k; k.SAVE_SECONDS = 0"
        done = nucbench(*bad, data=data, runs=tmp_path, status=1, before=save)
        assert "the loss became" in done.stderr
        assert "smaller learning rate (now 1e+30)" in done.stderr
        assert "Traceback" not in done.stderr
        checkpoint = torch.load(run_folder(tmp_path) / "checkpoints/phase0.ckpt", weights_only=True)
        assert checkpoint["global_step"] >= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestMachine:
    """Disks, memory and clocks."""

    @pytest.mark.slow
    @pytest.mark.parametrize("at", ["checkpoints/phase0.ckpt", "params.json", "predictions/"])
    def test_full_disk(self, data: Path, small_disk: Path, whole: dict[str, bytes], at: str) -> None:
        """The disk is full from the moment at which a process begins to write a certain file."""
        filler = small_disk / "filler"
        fill = (
            "import benchmark.host.files as s\n"
            "make = s.new_file\n"
            "def new_file(folder, prefix, suffix):\n"
            f"    if {at!r} in str(folder / prefix[1:]):\n"
            f"        with open({str(filler)!r}, 'wb', buffering=0) as f:\n"
            "            try:\n"
            "                while f.write(bytes(1024)): pass\n"
            "            except OSError: pass\n"
            "    return make(folder, prefix, suffix)\n"
            "s.new_file = new_file"
        )
        done = nucbench(*TRAINED, "--steps", "40", data=data, runs=small_disk / "runs", before=fill, status=1)
        assert "is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()[-1]) < 400
        filler.unlink()
        nucbench(*TRAINED, "--steps", "40", data=data, runs=small_disk / "runs")
        assert results(small_disk / "runs") == whole

    @pytest.mark.slow
    def test_one_run_without_enough_memory(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "sweep.yaml").write_text(
            "methods: [dist]\ndatasets: [synthetic]\noptions: {dist: {features: 2}}\n"
            "overrides: {steps: 2, batch_size: 2, crop: 48, augment: flips}\n"
            "cases: [{overrides: {crop: 20000}}, {}]\n"
        )
        limit = 12 * 2**30
        command = ("sweep", tmp_path / "sweep.yaml", "--executor", "local", "--wandb", "off")
        little = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))"
        done = nucbench(*command, data=data, runs=tmp_path / "runs", status=1, before=little)
        assert "1 of 2 runs done" in done.stdout
        assert "memory ran out" in done.stdout
        (failure,) = tmp_path.glob("runs/dist/*/*/failure.txt")
        assert "smaller --batch-size or --crop" in failure.read_text()

    @pytest.mark.slow
    def test_clock_that_goes_backwards(self, data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
        backwards = (
            "import time\nstart, ticks = time.time(), [0]\n"
            "def back():\n    ticks[0] += 1\n    return start - 60 * ticks[0]\n"
            "time.time = back"
        )
        save = "\nimport benchmark.runs.phase_keeper as k; k.SAVE_SECONDS = 0"
        nucbench(*TRAINED, "--steps", "40", data=data, runs=tmp_path, before=backwards + save)
        minutes = json.loads((run_folder(tmp_path) / "record.json").read_text())["training"]["minutes"]
        assert 0 <= minutes < 5
        for path in tmp_path.rglob("*"):  # as after a clock that was ahead has been set right
            os.utime(path, (time.time() + 1e6, time.time() + 1e6))
        nucbench(*TRAINED, "--steps", "40", data=data, runs=tmp_path, before=backwards)
        assert results(tmp_path) == whole
