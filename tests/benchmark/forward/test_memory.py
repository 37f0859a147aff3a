"""The memory of networks is measured without running them, and bounds their tiles."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from benchmark.forward import memory
from benchmark.forward.memory import available_memory, largest_window, network_bytes
from benchmark.forward.network import Outputs
from benchmark.host.allocator import VARIABLE
from models.base.method import Batch, NucleiMethod, Task
from models.dist import DIST
from models.unet import UNet
from postproc.codecs.distance import DistanceCodec
from postproc.windows import Geometry


class Wide(NucleiMethod):
    """One convolution of 32 channels and one of 1."""

    def __init__(self, margin: int = 0) -> None:
        super().__init__(Task())
        self.codecs = {"wide": DistanceCodec()}
        self.geometry = Geometry(margin=margin)
        self.first = nn.Conv2d(3, 32, 1)
        self.second = nn.Conv2d(32, 1, 1)

    def forward(self, images: torch.Tensor) -> Outputs:
        return {"distance": self.second(self.first(images))}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def activate(self, outputs: Outputs) -> Outputs:
        return outputs


class Deciding(Wide):
    """A network that looks at its values."""

    def forward(self, images: torch.Tensor) -> Outputs:
        return super().forward(images * 2 if bool(images.sum() > 0) else images)


def test_what_is_alive_at_once_is_counted() -> None:
    fixed, per_pixel = network_bytes(Wide().eval(), None)
    assert fixed == 0
    assert per_pixel == 4 * (3 + 32 + 1)  # the input, what lies between, the output


def test_a_tile_takes_its_share_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    per_pixel = 4 * 36
    monkeypatch.setattr(memory, "available_memory", lambda: 1000**2 * per_pixel)
    side = largest_window(Wide().eval(), None)
    assert side == int((memory.SHARE * 1000**2) ** 0.5)
    assert largest_window(Wide().eval(), None, batch_size=4) == pytest.approx(side / 2, abs=1)
    assert largest_window(Wide(margin=30).eval(), None) == side - 60
    monkeypatch.setattr(memory, "available_memory", lambda: 10**15)
    assert largest_window(Wide().eval(), None) == memory.CPU_TILE
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    assert largest_window(Wide().eval(), None) == 1


def test_networks_that_look_at_values_have_a_default() -> None:
    assert network_bytes(Deciding().eval(), None) is None
    assert largest_window(Deciding().eval(), None) == memory.DEFAULT_TILE


def test_larger_networks_get_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1 << 30)
    small, large = (largest_window(DIST(Task(), features=n).eval(), None) for n in (16, 32))
    assert 2 * large == pytest.approx(2**0.5 * small, rel=0.1)
    assert network_bytes(UNet(Task(), features=16).eval(), None)[1] > 100


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_measured_bytes_are_those_a_process_takes() -> None:
    code = """
import torch
from models.base.method import Task
from models.dist import DIST
from benchmark.forward.memory import network_bytes
def field(name):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(name))
torch.set_num_threads(1)
method = DIST(Task(), features=16).eval()
_, per_pixel = network_bytes(method, None)
side = 1024  # a few hundred MB, beside which the pages of libraries that come and go count little
image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
with torch.inference_mode():
    method.predict_batch(method.prepare(image[..., :32, :32]))
    before = field("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    method.predict_batch(method.prepare(image))
print((field("VmHWM") - before) / (per_pixel * side**2))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        # huge pages round each of these small tensors up to 2 MiB
        env={key: value for key, value in os.environ.items() if key != VARIABLE} | {"OMP_NUM_THREADS": "1"},
    )
    assert 0.6 < float(done.stdout) < 1.6


def test_free_memory_is_known() -> None:
    assert 1 << 24 < available_memory() < 1 << 46
