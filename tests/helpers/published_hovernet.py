"""Random weights in the public layout of HoVer-Net's PyTorch files, and a plain network that runs them.

Names and shapes are those of the public network description (github.com/vqdang/hover_net). The code shares nothing
with `models.networks.hovernet`, so that both can be compared.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
UNITS = (3, 4, 6, 3)
EPSILON = 1e-5


class Writer:
    """Draws the tensors of a file.

    Args:
        width: Channels of the first convolution; 64 in the published files.
        seed: Of the random numbers.
    """

    def __init__(self, width: int, seed: int) -> None:
        self.width = width
        self.state: State = {}
        self._random = torch.Generator().manual_seed(seed)

    def kernel(self, name: str, out: int, channels: int, side: int, *, bias: bool = False) -> None:
        shape = (out, channels, side, side)
        scale = (2 / (channels * side * side)) ** 0.5
        self.state[f"{name}.weight"] = torch.randn(shape, generator=self._random) * scale
        if bias:
            self.state[f"{name}.bias"] = torch.randn(out, generator=self._random)

    def norm(self, name: str, channels: int) -> None:
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            self.state[f"{name}.{tensor}"] = 0.5 + torch.rand(channels, generator=self._random)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def residual_block(self, name: str, channels: int, inner: int, units: int) -> None:
        for unit in range(units):
            place = f"{name}.units.{unit}"
            if unit:
                self.norm(f"{place}.preact/bn", channels)
            self.kernel(f"{place}.conv1", inner, channels, 1)
            self.norm(f"{place}.conv1/bn", inner)
            self.kernel(f"{place}.conv2", inner, inner, 3)
            self.norm(f"{place}.conv2/bn", inner)
            self.kernel(f"{place}.conv3", 4 * inner, inner, 1)
            if not unit:
                self.kernel(f"{name}.shortcut", 4 * inner, channels, 1)
                channels = 4 * inner
        self.norm(f"{name}.blk_bna.bn", channels)

    def decoder_stage(self, name: str, channels: int, reduced: int, units: int, side: int) -> None:
        self.kernel(f"{name}.conva", reduced, channels, side)
        for unit in range(units):
            place = f"{name}.dense.units.{unit}"
            self.norm(f"{place}.preact_bna/bn", reduced)
            self.kernel(f"{place}.conv1", 2 * self.width, reduced, 1)
            self.norm(f"{place}.conv1/bn", 2 * self.width)
            self.kernel(f"{place}.conv2", self.width // 2, self.width // 2, side)  # 4 groups
            reduced += self.width // 2
        self.norm(f"{name}.dense.blk_bna.bn", reduced)
        self.kernel(f"{name}.convf", reduced, reduced, 1)


def published_state(mode: str = "fast", types: int | None = None, *, width: int = 8, seed: int = 0) -> State:
    """Return random weights under the public names.

    Args:
        mode: ``fast`` or ``original``.
        types: Nucleus types with the background, as the public code counts them; None = no branch for types.
        width: Channels of the first convolution.
        seed: Of the random numbers.
    """
    writer = Writer(width, seed)
    side = 3 if mode == "fast" else 5
    writer.kernel("conv0./", width, 3, 7)
    writer.norm("conv0.bn", width)
    channels = width
    for level, units in enumerate(UNITS):
        writer.residual_block(f"d{level}", channels, width * 2**level, units)
        channels = 4 * width * 2**level
    writer.kernel("conv_bot", 16 * width, 32 * width, 1)
    for branch, outputs in (*([("tp", types)] if types else []), ("np", 2), ("hv", 2)):
        place = f"decoder.{branch}"
        writer.decoder_stage(f"{place}.u3", 16 * width, 4 * width, 8, side)
        writer.decoder_stage(f"{place}.u2", 8 * width, 2 * width, 4, side)
        writer.kernel(f"{place}.u1.conva", width, 4 * width, side)
        writer.norm(f"{place}.u0.bn", width)
        writer.kernel(f"{place}.u0.conv", outputs, width, 1, bias=True)
    writer.state["upsample2x.unpool_mat"] = torch.ones(2, 2)
    return writer.state


def write_published(path: Path, state: State) -> Path:
    """Write a file as the public code saves it: the state under ``desc``."""
    torch.save({"desc": state}, path)
    return path


class PublishedNetwork:
    """Runs a state under its public names, in evaluation mode.

    Args:
        state: The weights.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.fast = state["decoder.np.u3.conva.weight"].shape[-1] == 3

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of each branch of images (B, 3, H, W) with values of 0 to 255."""
        x = images / 255
        x = F.pad(x, (3, 3, 3, 3)) if self.fast else x
        x = self.norm(self.kernel(x, "conv0./"), "conv0.bn")
        levels = []
        for level, units in enumerate(UNITS):
            x = self.residual_block(x, f"d{level}", units, 2 if level else 1)
            levels.append(x)
        x = self.kernel(x, "conv_bot")
        shallow, middle = (92, 36) if self.fast else (184, 72)
        levels[0], levels[1] = cropped(levels[0], shallow), cropped(levels[1], middle)
        branches = sorted({name.split(".")[1] for name in self.state if name.startswith("decoder.")})
        return {branch: self.branch(x, levels, f"decoder.{branch}") for branch in branches}

    def kernel(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            self.state[f"{name}.{each}"][:, None, None] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + EPSILON).sqrt() * weight + bias).clamp(min=0)

    def residual_block(self, x: Tensor, name: str, units: int, stride: int) -> Tensor:
        total = self.kernel(x, f"{name}.shortcut", stride)
        for unit in range(units):
            place = f"{name}.units.{unit}"
            x = self.norm(x, f"{place}.preact/bn") if unit else x
            x = self.norm(self.kernel(x, f"{place}.conv1"), f"{place}.conv1/bn")
            step = 1 if unit else stride
            x = same_padded(x, 3, step)
            x = self.norm(self.kernel(x, f"{place}.conv2", step), f"{place}.conv2/bn")
            x = total = self.kernel(x, f"{place}.conv3") + total
        return self.norm(x, f"{name}.blk_bna.bn")

    def branch(self, x: Tensor, levels: list[Tensor], name: str) -> Tensor:
        x = self.stage(doubled(x) + levels[2], f"{name}.u3", 8)
        x = self.stage(doubled(x) + levels[1], f"{name}.u2", 4)
        x = doubled(x) + levels[0]
        x = self.kernel(same_padded(x, 3 if self.fast else 5, 1), f"{name}.u1.conva")
        return self.kernel(self.norm(x, f"{name}.u0.bn"), f"{name}.u0.conv")

    def stage(self, x: Tensor, name: str, units: int) -> Tensor:
        x = self.kernel(x, f"{name}.conva")
        for unit in range(units):
            place = f"{name}.dense.units.{unit}"
            new = self.kernel(self.norm(x, f"{place}.preact_bna/bn"), f"{place}.conv1")
            new = self.kernel(self.norm(new, f"{place}.conv1/bn"), f"{place}.conv2", groups=4)
            x = torch.cat([cropped(x, x.shape[-1] - new.shape[-1]), new], dim=1)
        return self.kernel(self.norm(x, f"{name}.dense.blk_bna.bn"), f"{name}.convf")


def same_padded(x: Tensor, side: int, stride: int) -> Tensor:
    """Pad like TensorFlow (`same`): the odd pixel is at the right and bottom."""
    rest = x.shape[-1] % stride
    total = max(side - (rest or stride), 0)
    before = total // 2
    return F.pad(x, (before, total - before) * 2)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def cropped(x: Tensor, total: int) -> Tensor:
    """Remove `total` pixels of each axis, half of them on each side."""
    before = total // 2
    height, width = x.shape[-2] - total, x.shape[-1] - total
    return x[..., before : before + height, before : before + width]


__all__ = ["PublishedNetwork", "published_state", "write_published"]
