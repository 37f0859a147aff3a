"""Sizes of the networks beside those that the published figures belong to."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch

from benchmark.options import option_defaults
from benchmark.registry import METHODS, method_class
from models.base.method import Task


def own(name: str, **options: object) -> int:
    """Count the parameters of a method at its paper's width, without weights in memory."""
    kind = method_class(name)
    without = {option: "none" for option in option_defaults(kind) if option.endswith("weights")}
    with torch.device("meta"):
        return sum(p.numel() for p in kind(Task(), **without, **options).parameters())


def conv(channels_in: int, channels_out: int, kernel: int, *, bias: bool = True) -> int:
    return channels_in * channels_out * kernel**2 + channels_out * bias


def compared_unet(width: int, channels_out: int, *, norm: bool) -> int:
    """U-Net and DIST of HoVer-Net's comparison: transposed convolutions keep the channels."""
    extra = 2 if norm else 0  # biases stay, although batch normalisation follows
    widths = [3, *(width * 2**level for level in range(5))]
    count = 0
    for before, after in pairwise(widths):
        count += conv(before, after, 3) + conv(after, after, 3) + 2 * extra * after
    for below, after in pairwise(widths[:0:-1]):
        count += conv(below, below, 2) + conv(below + after, after, 3) + conv(after, after, 3) + 2 * extra * after
    return count + conv(width, channels_out, 1)


def compared_micronet() -> int:
    """Micro-Net of HoVer-Net's comparison: features keep their channels where they are enlarged."""
    count, before = 0, 3
    for width in (64, 128, 256, 512):
        for source in (before, 3):
            count += conv(source, width, 3, bias=False) + 2 * width + conv(width, width, 3)
        before = 2 * width
    count += conv(1024, 2048, 3) + conv(2048, 2048, 3)
    for below, width in pairwise((2048, 1024, 512, 256, 128)):
        count += conv(below, width, 2) + 2 * conv(width, width, 3) + conv(width, width, 5) + conv(width, width, 5)
        count += conv(2 * width, width, 1)
    for width, factor in ((128, 2), (256, 4), (512, 8)):
        count += conv(width, width, factor) + conv(width, 2, 3) + conv(2, 2, 3)
    return count + conv(6, 2, 3)


COMPARED = {
    "unet": compared_unet(64, 2, norm=False),
    "dist": compared_unet(32, 1, norm=True),
    "micronet": compared_micronet(),
    "fcn8": 134.3e6,
    "segnet": 29.4e6,
    "hovernet": 54.7e6,
}
"""Method -> parameters of the network of HoVer-Net's comparison: laid out as in its public code (github.com/vqdang/
hover_net, version in TensorFlow), or as stated for VGG16 as an FCN, for SegNet, and for HoVer-Net with types."""


def test_networks_of_the_comparison_have_their_known_sizes() -> None:
    assert [round(COMPARED[name] / 1e6, 1) for name in ("unet", "dist", "micronet")] == [37.0, 9.2, 192.6]


@pytest.mark.parametrize("name", sorted(COMPARED))
def test_a_size_that_differs_is_on_the_card(name: str) -> None:
    kind = method_class(name)
    if name == "hovernet":
        with torch.device("meta"):
            count = sum(p.numel() for p in kind(Task(("a", "b", "c", "d")), weights="none").parameters())
    else:
        count = own(name)
    text = " ".join(kind.card.deviations)
    if abs(count / COMPARED[name] - 1) > 0.005:
        for figure in (count, COMPARED[name]):
            assert f"{figure / 1e6:.1f} M" in text
    stated = {float(figure) for figure in re.findall(r"(\d+\.\d) M\b", text)}
    assert stated <= {round(count / 1e6, 1), round(COMPARED[name] / 1e6, 1)}


def test_no_other_card_states_a_size() -> None:
    for name in set(METHODS) - set(COMPARED):
        assert not re.search(r"\d M parameters", " ".join(method_class(name).card.deviations)), name
