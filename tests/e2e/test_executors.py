"""Sweeps in several processes and on a cluster: failures, kills, going on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import nucbench, wait_until

from benchmark.host.cores import usable_cores
from benchmark.host.machine import Machine
from benchmark.sweeps.executors import environment, finish, run_local, start
from benchmark.sweeps.job import Job, State
from benchmark.sweeps.slurm import queue
from benchmark.sweeps.spec import SweepSpec
from datamodules.synthetic_sets import Synthetic

SETTINGS = """
options: {dist: {features: 2}}
overrides: {steps: 2, batch_size: 2, crop: 48, crops_per_image: 1, augment: flips}
"""
GOOD = "methods: [dist, fiji]\ndatasets: [synthetic]" + SETTINGS
ONE_BAD = "methods: [dist]\ndatasets: [synthetic]" + SETTINGS + "cases: [{}, {overrides: {lr: 1.0e+30}}]\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    Synthetic.write_synthetic(tmp_path / "data/synthetic", size=64)
    return tmp_path


def jobs_of(place: Path, text: str) -> list[Job]:
    (place / "sweep.yaml").write_text(text)
    machine = Machine(place / "data", place / "runs", progress=False, workers=0)
    return [Job(spec, tuple(targets), machine) for spec, targets in SweepSpec.load(place / "sweep.yaml").runs()]


def command(place: Path, *more: str) -> list[str]:
    arguments = ["sweep", str(place / "sweep.yaml"), "--data", str(place / "data"), "--runs", str(place / "runs")]
    return [*arguments, "--no-progress", *more]


def sweep(place: Path, *more: str, status: int = 0) -> str:
    return nucbench(*command(place, *more), folder=place, status=status, seconds=600).stdout


def test_a_job_survives_the_way_to_another_process(place: Path) -> None:
    (job, *_) = jobs_of(place, GOOD)
    assert Job.from_json(job.to_json()) == job


@pytest.mark.slow
def test_one_failing_run_stops_no_other_and_is_tried_again_only_when_asked(place: Path) -> None:
    good, bad = jobs_of(place, ONE_BAD)
    text = sweep(place, "--executor", "local", "--processes", "2", status=1)
    assert (good.state, bad.state) == (State.DONE, State.FAILED)
    assert f"failed: {bad.spec.run_id}" in text
    assert "1 of 2 runs done" in text
    assert "the loss became" in bad.failure.read_text()
    assert "Traceback" in bad.failure.read_text()

    before = bad.failure.stat().st_mtime_ns
    assert "0 to do" in sweep(place, "--executor", "local", status=1)
    assert bad.failure.stat().st_mtime_ns == before
    assert "1 to do" in sweep(place, "--retry-failed", status=1)
    assert bad.failure.stat().st_mtime_ns > before


@pytest.mark.slow
def test_a_run_whose_data_were_missing_is_tried_again(tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path, "methods: [fiji]\ndatasets: [synthetic]\n")
    assert "missing: " in sweep(tmp_path, "--dry-run", status=1)
    text = sweep(tmp_path, status=1)
    assert job.state is State.FAILED
    assert "--retry-failed" not in text
    assert "Traceback" in job.failure.read_text()
    Synthetic.write_synthetic(tmp_path / "data/synthetic", size=64)
    assert "1 of 1 runs done" in sweep(tmp_path)
    assert job.state is State.DONE
    assert not job.failure.exists()


@pytest.mark.slow
def test_a_killed_process_is_a_failure_that_says_so(place: Path) -> None:
    job = jobs_of(place, GOOD)[0]
    process = start(job, environment(0, 2, 0))
    wait_until((job.folder / "spec.json").exists)
    os.killpg(process.pid, signal.SIGKILL)
    assert "failed" in finish(job, process.wait())
    assert "SIGKILL, probably because memory ran out" in job.failure.read_text()

    run_local([job])  # what is left of the dead process does not hinder the next
    assert job.state is State.DONE
    assert not job.failure.exists()


@pytest.mark.slow
def test_a_run_of_another_process_is_left_to_it(place: Path) -> None:
    from benchmark.results.store import RunStore

    job = jobs_of(place, GOOD)[0]
    with RunStore.create(job.machine.runs, job.spec).lock():
        run_local([job])
    assert job.state is State.TO_DO  # no failure is noted
    assert "skipped: another process is working on" in (job.folder / "output.txt").read_text()


def test_processes_share_gpus_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    cores = usable_cores()
    assert environment(1, 2, 2) == {"CUDA_VISIBLE_DEVICES": "6", "OMP_NUM_THREADS": str(max(1, cores // 2))}
    assert environment(2, 4, 2)["CUDA_VISIBLE_DEVICES"] == "4"
    assert environment(0, 1, 0) == {"OMP_NUM_THREADS": str(cores)}


def test_without_a_cluster_the_error_names_the_way_out(place: Path) -> None:
    jobs_of(place, GOOD)
    path = str(Path(sys.executable).parent)
    done = nucbench(*command(place, "--executor", "slurm"), folder=place, status=2, PATH=path)
    assert "use --executor local" in done.stderr
    assert "Traceback" not in done.stderr


def _cluster() -> bool:
    if shutil.which("squeue") is None:
        return False
    return subprocess.run(["squeue"], capture_output=True, check=False).returncode == 0


@pytest.mark.slurm
@pytest.mark.skipif(not _cluster(), reason="no SLURM answers here")
def test_a_sweep_on_a_cluster_ends_complete_after_a_cancelled_job(place: Path) -> None:
    jobs = jobs_of(place, GOOD.replace("steps: 2,", "steps: 600,") + "seeds: [0, 1, 2]\n")
    assert len(jobs) == 6
    text = sweep(place, *SLURM, "--slurm.no-wait", status=1)
    assert text.count("submitted as") == 6
    cancelled, requeued = jobs[:2]
    for job, how in ((cancelled, ()), (requeued, ("--signal=USR2",))):  # the two run beside each other, on two cores
        wait_until((job.folder / "logs/phase0").is_dir)
        subprocess.run(["scancel", *how, ticket(job)], check=False)  # it sends again, to a job that has left already
    for job in (cancelled, requeued):
        wait_until((job.folder / "checkpoints/phase0.ckpt").exists)
    assert ticket(requeued) in queue(), "what submitit sends ahead of the time limit queues the run again"
    wait_until(lambda: ticket(cancelled) not in queue())
    assert cancelled.state is State.TO_DO

    text = sweep(place, *SLURM)
    assert text.count("submitted as") == 1, "the other five are in the queue, or done"
    assert "6 of 6 runs done" in text
    assert all(job.state is State.DONE for job in jobs)
    for job in (cancelled, requeued):
        assert json.loads((job.folder / "checkpoints/done.json").read_text())["steps"] == 600


SLURM = ("--executor", "slurm", "--slurm.minutes", "10", "--slurm.cpus", "1")


def ticket(job: Job) -> str:
    return str(json.loads((job.folder / "slurm.json").read_text())["job"])
