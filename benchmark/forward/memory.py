"""How much memory a network needs, and how large a tile may therefore be."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.forward.network import Network

CPU_TILE = 2048
"""Side of the largest output tile on a CPU, in px. Beyond, a tile has hardly less border for its area."""
GPU_TILE = 4096
"""Side of the largest output tile on a GPU, in px."""
CPU_BYTES = 2 << 30
"""Memory that a tile may take on a CPU: enough for an image of 1000 px in four tiles of HoVer-Net (4 KB a px), and
little beside the 6 GiB within which images of any size are worked on."""
DEFAULT_TILE = 1024
"""Side of the output tile of networks whose memory is not known beforehand (detectors), in px."""
SHARE = 0.6
"""Share of the free memory that a tile may take; the rest is for what the measurement does not see, and for others."""
ELEMENTS = 2**31
"""Elements that no tensor may have: beyond, kernels address them by 64 bits, and many have none that do."""
PROBES = (512, 1024)
"""Sides of the tiles by which memory is measured, in px beside the margins. Smaller images need no measurement."""

_MEASURED: weakref.WeakKeyDictionary[Network, dict[str, tuple[float, float] | None]] = weakref.WeakKeyDictionary()


def largest_window(method: Network, dtype: torch.dtype | None, batch_size: int = 1) -> int:
    """Return the side in px of the largest output tile that the free memory of the method's device allows.

    The network is measured once per process, precision and device, on two small tiles (`network_bytes`).

    Args:
        method: In eval mode, on its device.
        dtype: What autocast computes in; None = float32.
        batch_size: Tiles per forward pass.
    """
    device = method.device
    measured = network_bytes(method, dtype)
    if measured is None:
        return DEFAULT_TILE
    fixed, per_pixel = measured
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget, limit = SHARE * free, GPU_TILE
    else:
        budget, limit = min(SHARE * available_memory(), CPU_BYTES), CPU_TILE
    # a px that takes b bytes has at most b / 2 elements in one tensor; a quarter of them is never reached in practice
    pixels = min(max(budget - fixed, 0) / per_pixel / batch_size, ELEMENTS / max(per_pixel / 16, 1) / batch_size)
    return max(1, min(limit, math.isqrt(int(pixels)) - 2 * method.geometry.margin))


def network_bytes(method: Network, dtype: torch.dtype | None) -> tuple[float, float] | None:
    """Return the bytes that a forward pass takes at its peak, whatever the tile, and for each px of its input.

    Weights are not included. On a GPU two tiles are run. On a CPU, where that may take minutes, the network runs
    without data instead (`torch.device("meta")`), in float32 whatever the precision.

    Args:
        method: In eval mode, on its device.
        dtype: What autocast computes in; None = float32.

    Returns:
        Both, or None where a network cannot run without data (detectors).
    """
    known = _MEASURED.setdefault(method, {})
    key = f"{method.device} {dtype}"
    if key not in known:
        known[key] = _measured(method, dtype)
    return known[key]


def _measured(method: Network, dtype: torch.dtype | None) -> tuple[float, float] | None:
    sides = [method.geometry.valid_input(side + 2 * method.geometry.margin) for side in PROBES]
    if sides[0] == sides[1]:
        sides[1] = method.geometry.valid_input(2 * sides[0])
    peaks = [
        _peak_on_gpu(method, side, dtype) if method.device.type == "cuda" else _peak(method, side) for side in sides
    ]
    if peaks[0] is None or peaks[1] is None:
        return None
    slope = max((peaks[1] - peaks[0]) / (sides[1] ** 2 - sides[0] ** 2), 1.0)
    return max(peaks[0] - slope * sides[0] ** 2, 0.0), slope


def _peak_on_gpu(method: Network, side: int, dtype: torch.dtype | None) -> int:
    """Return the bytes that one tile of noise takes at the peak of a real forward pass."""
    device = method.device
    noise = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        statistics = method.statistics(noise.to(device).float() / 255)
        method.predict_batch(method.prepare(noise, statistics))  # loads kernels
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        method.predict_batch(method.prepare(noise, statistics))
        return torch.cuda.max_memory_allocated(device) - before


def _peak(method: Network, side: int) -> int | None:
    """Return the bytes of the tensors that are alive at the same time in a forward pass without data."""
    state = {
        name: torch.empty_like(value, device="meta")
        for name, value in [*method.named_parameters(), *method.named_buffers()]
    }
    counter = _LiveBytes()
    try:
        with torch.inference_mode(), counter:
            image = torch.empty((1, 3, side, side), device="meta")
            outputs = torch.func.functional_call(method, state, (image,))
            method.activate({name: value.float() for name, value in outputs.items()})
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
        return None  # what depends on the values of px cannot run without them
    return counter.highest


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    """Counts the bytes of the storages that operations return, while any tensor of theirs is alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.highest = 0
        self._alive = 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor)
        return result

    def _watch(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._users:
            self._alive += size
            self.highest = max(self.highest, self._alive)
        self._users[key] = self._users.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if self._users[key] == 0:
            del self._users[key]
            self._alive -= size


def available_memory() -> int:
    """Return the bytes of main memory that may be taken: what is free, and no more than a container's limit leaves."""
    free = _field(Path("/proc/meminfo"), "MemAvailable:")
    amounts = [free * 1024] if free is not None else [8 << 30]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        most, taken = _number(Path(limit)), _number(Path(used))
        if most is not None and taken is not None:
            amounts.append(max(most - taken, 0))
    return min(amounts)


def _field(path: Path, name: str) -> int | None:
    """Return the number that follows a name in a file of the system, None where there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), None)


def _number(path: Path) -> int | None:
    """Return the number in a file of the system; None where there is none, or no limit."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
