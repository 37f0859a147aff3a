"""Usable cores and threads, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.host.cores import usable_cores
from benchmark.host.machine import Machine
from benchmark.host.threads import THREADS, WAIT
from benchmark.inference.decoding import decoders, submit

VARIABLES = (WAIT, THREADS)


def run(code: str, *before: str, **variables: str) -> str:
    """Return what Python prints in a process whose user has set only `variables`."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    words = [*before, sys.executable, "-c", code]
    return subprocess.run(words, env=kept | variables, capture_output=True, text=True, check=True).stdout.strip()


def groups(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Write control groups, and return the arguments of `usable_cores`."""
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "membership").write_text(membership)
    return folder / "cgroup", folder / "membership"


V2 = "0::/a/b\n"
V1 = "3:cpuset:/\n2:cpu,cpuacct:/a/b\n1:memory:/a\n0::/\n"
CASES = {
    "no groups": (V2, {}, 8),
    "no quota": (V2, {"a/b/cpu.max": "max 100000\n"}, 8),
    "quota": (V2, {"a/b/cpu.max": "300000 100000\n"}, 3),
    "part of a core": (V2, {"a/b/cpu.max": "20000 100000\n"}, 1),
    "fraction": (V2, {"a/b/cpu.max": "150000 100000\n"}, 2),
    "quota of a parent": (V2, {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
    "more than the machine": (V2, {"a/b/cpu.max": "9900000 100000\n"}, 8),
    "inside a container": ("0::/../../x\n", {"cpu.max": "200000 100000\n"}, 2),
    "not mounted": ("0::/docker/123\n", {"cpu.max": "200000 100000\n"}, 2),
    "hybrid": (V2, {"unified/a/b/cpu.max": "400000 100000\n"}, 4),
    "version 1": (V1, {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/b/cpu.cfs_period_us": "50000"}, 5),
    "version 1 without quota": (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}, 8),
    "version 1, one folder": (V1, {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 2),
    "other controller": ("1:memory:/a\n", {"memory/a/cpu.max": "100000 100000\n", "cpu.max": "100000 100000"}, 8),
    "damaged": (V2, {"a/b/cpu.max": "many\n"}, 8),
}


@pytest.mark.parametrize("name", CASES)
def test_quotas_of_control_groups(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    membership, files, cores = CASES[name]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores(*groups(tmp_path, membership, files)) == cores


def test_affinity_of_a_process() -> None:
    core = str(min(os.sched_getaffinity(0)))
    code = "from benchmark.host.cores import usable_cores as u; from benchmark.host.machine import Machine as M; "
    code += "m = M('d', 'r'); print(u(), m.loaders(), m.decoders())"
    assert run(code, "taskset", "-c", core) == "1 0 1"


def test_workers_follow_the_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmark.host.machine.usable_cores", lambda: 5)
    machine = Machine(tmp_path, tmp_path)
    assert (machine.loaders(), machine.decoders()) == (3, 4)


STARTS = {
    "command line": "from benchmark.commands import cli; cli.main(['models'])",
    "process of a sweep": "import io; sys.stdin = io.StringIO('{'); from benchmark.sweeps import job\n"
    "try: job.main()\nexcept ValueError: pass",
    "task of SLURM": "from benchmark.sweeps.slurm import ArrayTask\ntry: ArrayTask()('{')\nexcept ValueError: pass",
}
"""Entry point of each kind of process, called without work."""
SHOWN = "\nimport json, os; print(json.dumps([os.environ.get(n) for n in ('OMP_WAIT_POLICY', 'OMP_NUM_THREADS')]))"
GUARD = """
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "numba"):
            import os
            assert os.environ.get("OMP_WAIT_POLICY"), "loaded before its variables are set"
sys.meta_path.insert(0, Guard())
"""


@pytest.mark.parametrize("start", STARTS)
def test_threads_sleep_while_they_wait(start: str) -> None:
    assert json.loads(run(GUARD + STARTS[start] + SHOWN).splitlines()[-1]) == ["passive", None]


@pytest.mark.parametrize("start", STARTS)
def test_the_choice_of_the_user_is_kept(start: str) -> None:
    found = run(STARTS[start].join(["import sys\n", SHOWN]), OMP_WAIT_POLICY="active", OMP_NUM_THREADS="7")
    assert json.loads(found.splitlines()[-1]) == ["active", "7"]


@pytest.mark.slow
def test_openmp_follows_the_quota_and_sweeps_share_it() -> None:
    code = (
        "from benchmark.host import threads, cores; import benchmark.sweeps.executors as e\n"
        "threads.cores_in_affinity = lambda: 16; threads.usable_cores = lambda: 1; e.usable_cores = lambda: 6\n"
        "threads.use_threads_well(); first = e.environment(0, 2, 0); import torch\n"
        "print(torch.get_num_threads(), first)"
    )
    assert run(code) == "1 {'OMP_NUM_THREADS': '3'}"
    assert run(code, OMP_NUM_THREADS="2") == "2 {}"


def threads() -> dict[str, object]:
    """Return the threads of a worker, and whether its first task has loaded torch."""
    had_torch = "torch" in sys.modules
    import cv2
    import numba
    import torch

    return {
        "torch loaded": had_torch, "torch": torch.get_num_threads(), "cv2": cv2.getNumThreads(),
        "numba": numba.get_num_threads(),
    }  # fmt: skip


ONE_EACH = {"torch": 1, "cv2": 1, "numba": 1}


@pytest.mark.slow
def test_decoding_workers_use_one_thread_and_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS, "2")
    with decoders(1) as pool:
        pid = submit(pool, os.getpid).result()
        assert submit(pool, threads).result() == {"torch loaded": False, **ONE_EACH}
    assert pid != os.getpid()


def test_the_decoding_module_loads_without_torch() -> None:
    code = "import sys, benchmark.inference.decoding; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.slow
def test_loader_workers_use_one_thread() -> None:
    code = (
        "import cv2, torch; torch.set_num_threads(2); cv2.setNumThreads(2)\n"
        "from torch.utils.data import DataLoader\n"
        "from datamodules.drawing.loading import start_loader\n"
        "class Data:\n"
        "    def __len__(self): return 2\n"
        "    def __getitem__(self, i): return torch.get_num_threads(), cv2.getNumThreads()\n"
        "loader = DataLoader(Data(), batch_size=None, num_workers=1, worker_init_fn=start_loader)\n"
        "print(list(loader), torch.get_num_threads(), cv2.getNumThreads())"
    )
    assert run(code) == "[[1, 1], [1, 1]] 2 2"


@pytest.mark.slow
def test_loader_workers_start_while_opencv_has_threads() -> None:
    code = (
        "import cv2, numpy as np\n"
        "from torch.utils.data import DataLoader\n"
        "from datamodules.drawing.loading import start_loader\n"
        "class Data:\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, i): return cv2.getNumThreads()\n"
        "cv2.setNumThreads(4)\n"
        "for _ in range(3):\n"
        "    cv2.GaussianBlur(np.ones((2000, 2000), np.float32), (0, 0), 5)  # starts the threads\n"
        "    loader = DataLoader(Data(), batch_size=None, num_workers=2, worker_init_fn=start_loader, timeout=60)\n"
        "    found = list(loader)\n"
        "print(found, cv2.getNumThreads())"
    )
    assert run(code) == "[1, 1, 1, 1] 4"


@pytest.mark.slow
def test_inference_loads_without_albumentations() -> None:
    code = (
        "import sys, benchmark.inference.images, benchmark.runs.trained, models.dist\n"
        "print([m for m in ('albumentations', 'segmentation_models_pytorch') if m in sys.modules])"
    )
    assert run(code) == "[]"
