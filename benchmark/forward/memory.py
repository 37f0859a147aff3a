"""Measure the memory of a network, and derive the maximum tile size."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.forward.network import Network

CPU_TILE = 2048
"""Maximum side of output tiles on a CPU in pixels. In larger tiles, the share of the border hardly decreases."""
GPU_TILE = 4096
"""Maximum side of output tiles on a GPU in pixels."""
CPU_BYTES = 2 << 30
"""Memory limit of a tile on a CPU: enough for an image of 1000 px in four tiles of HoVer-Net (4 KB per pixel), and
small compared with the 6 GiB limit for images of any size."""
DEFAULT_TILE = 1024
"""Side in pixels of output tiles of networks whose memory cannot be measured in advance (detectors)."""
SHARE = 0.6
"""Share of the free memory for a tile; the rest is for unmeasured memory and other processes."""
ELEMENTS = 2**31
"""Limit of elements per tensor: larger tensors need kernels with 64-bit indices, which many operations lack."""
PROBES = (512, 1024)
"""Sides in pixels, without margins, of the tiles that measure memory. Smaller images need no measurement."""

_MEASURED: weakref.WeakKeyDictionary[Network, dict[str, tuple[float, float] | None]] = weakref.WeakKeyDictionary()


def largest_window(method: Network, dtype: torch.dtype | None, batch_size: int = 1) -> int:
    """Return the side in pixels of the largest output tile that fits in the free memory of the device.

    The network is measured once per process, precision and device, on two small tiles (`network_bytes`).

    Args:
        method: Network in eval mode, on its device.
        dtype: Dtype of autocast; None = float32.
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
    # b bytes per pixel are at most b / 2 elements in one tensor; in practice less than an eighth of that
    pixels = min(max(budget - fixed, 0) / per_pixel / batch_size, ELEMENTS / max(per_pixel / 16, 1) / batch_size)
    return max(1, min(limit, math.isqrt(int(pixels)) - 2 * method.geometry.margin))


def network_bytes(method: Network, dtype: torch.dtype | None) -> tuple[float, float] | None:
    """Return the peak memory of a forward pass in bytes: a constant, and a value per pixel of the input.

    Weights are excluded. On a GPU two tiles are run. On a CPU this could take minutes, so the network runs without data
    (`torch.device("meta")`), always in float32.

    Args:
        method: Network in eval mode, on its device.
        dtype: Dtype of autocast; None = float32.

    Returns:
        Both values, or None if the network cannot run without data (detectors).
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
    """Return the peak memory in bytes of a real forward pass on a tile of noise."""
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
    """Return the maximum bytes of simultaneously alive tensors in a forward pass without data."""
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
        return None  # a network that depends on pixel values cannot run without data
    return counter.highest


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Counts the bytes of the storages returned by operations while any of their tensors is alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
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
    """Return the available main memory in bytes, within the limit of a container."""
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
    """Return the number after a name in a system file, None if missing."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), None)


def _number(path: Path) -> int | None:
    """Return the number in a system file; None if missing or not a number."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
