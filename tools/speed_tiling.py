"""HoVer-Net on one image: the tiles of its published code against tiles as large as the machine allows.

Both run the same weights, and their label maps must agree. Random weights find no nuclei, and training at full width
takes hours. Therefore a narrow network is trained for minutes on synthetic crops and then widened without changing its
function (Chen, Goodfellow and Shlens, Net2Net, ICLR 2016, section 3.1): each channel is repeated, and the weights that
read it are divided by the number of copies. The wide network has the cost of any network of its width; the label maps
are computed with the narrow one.

    python tools/speed_tiling.py --sizes 1000 --option mode=original --tiles 3

Without ``--option weights=FILE`` the training takes a minute (mode ``fast``) to ten (``original``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from speed_peers import MAPS, panoptic_quality
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.forward.maps import InferenceSettings, predict_maps, windows
from benchmark.forward.memory import largest_window
from benchmark.host.precision import autocast_dtype
from benchmark.options import check_options
from benchmark.speed.components import DENSITY
from benchmark.speed.methods import collate, label_of
from benchmark.speed.report import write_report
from benchmark.speed.timing import OURS, Timing, finish
from datamodules.drawing.crops import CropDrawer
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.method import Task
from models.base.weights import NONE
from models.hovernet import HoVerNet
from models.networks.hovernet import FEATURES, Decoder
from postproc.errors import NucbenchError
from postproc.pixels.labels import LabelMap
from postproc.windows import Window

NARROW = 8
"""Channels of the first convolution of the trained network."""
STEPS = {"original": 600, "fast": 60}
"""Optimiser steps of its training, by mode.

A crop of mode ``original`` trains on a quarter of the pixels, and its tiles are closer to zero padding, so label maps
only agree once the network is certain about its pixels.
"""
BATCH = 2
RATE = 1e-2
"""Highest learning rate of its one-cycle schedule."""
DISTANCES = 10.0
"""Weight of the squared error of the distances, so that they are learnt as fast as the classes."""


@dataclass(frozen=True)
class Way:
    """One way to run an image.

    Attributes:
        name: Name for the table.
        settings: Tile size and precision.
        channels_first: Use the memory layout of the published code.
        by: Source of this way.
    """

    name: str
    settings: InferenceSettings
    channels_first: bool = False
    by: str = OURS


def tiling_timings(
    options: dict[str, Any], side: int, precision: str, tiles: int | None = None, steps: int | None = None
) -> list[Timing]:
    """Time one image in published tiles and in large ones, once each, and compare their label maps.

    Published tiles are run in float32 with channels first, like the published code. To separate the effect of the size
    on time and label map, tiles of the same size are also run in the precision and memory layout of the large ones, at
    positions aligned with pooling: in mode ``fast`` published tiles are 164 px apart, not a multiple of the 8 px that
    the network pools, so every other tile pools different pixels together.

    Args:
        options: Options of `HoVerNet`. With ``weights``, that network is run, otherwise one that is trained here.
        side: Side of the image, in pixels.
        precision: Lightning precision of the large tiles.
        tiles: Approximate number of small tiles to time, at most a row; all have the same size, so the time of the
            rest is extrapolated. None = all.
        steps: Optimiser steps of the training; None = `STEPS`.

    Returns:
        The large tiles, the small ones, and the published ones. `Timing.agreement` is the PQ of their label map against
        that of the large tiles.
    """
    method, twin = _networks(options, steps)
    image, truth = generate((side, side), np.random.default_rng(0), density=DENSITY)
    label = label_of("hovernet", {"mode": "original", "features": FEATURES} | options)
    found: list[Timing] = []
    reference: LabelMap | None = None
    for way in _ways(method, precision):
        milliseconds, timed, count = _time(method, image, way, tiles)
        labels = label_map(twin, image, way)
        total, nuclei = milliseconds * count / timed, int(labels.max())
        note = f"{_describe(method, image, way)}; {timed} timed; {nuclei} nuclei found"
        size, threads = f"{side} px", torch.get_num_threads()
        timing = Timing(f"{label}: {way.name}", size, truth.count, total, total, total, 1, threads, way.by, note=note)
        if reference is None:
            reference = labels
        else:
            quality = panoptic_quality(reference, labels)
            timing = replace(timing, nucbench_ms=found[0].median_ms, agreement=quality, agreement_in=MAPS)
        found.append(timing)
    return found


def _ways(method: HoVerNet, precision: str) -> tuple[Way, ...]:
    tile = largest_window(method, autocast_dtype(precision))
    return (
        Way("large tiles", InferenceSettings(precision, tile=tile)),
        Way("small tiles", InferenceSettings(precision, tile=_published_output(method)), by="published tile size"),
        Way(
            "published tiles, float32, channels first",
            InferenceSettings("32-true", published=True),
            channels_first=True,
            by="published tiling",
        ),
    )


def label_map(method: HoVerNet, image: NDArray[np.uint8], way: Way) -> LabelMap:
    """Return the nuclei that a network finds in an image, int32 (H, W)."""
    with _layout(method, way):
        maps = predict_maps(method, image, way.settings)
    labels = method.codec.decode(maps, method.codec.defaults()).labels
    assert labels is not None
    return labels


def _time(method: HoVerNet, image: NDArray[np.uint8], way: Way, tiles: int | None) -> tuple[float, int, int]:
    """Return the milliseconds for some of the tiles, the number of these, and the number of all tiles."""
    count = len(_plan(method, image, way))
    side = _published_output(method)
    part = image
    if tiles is not None and way.by != OURS:
        part = image[:side, : max(1, min(tiles, image.shape[1] // side)) * side]
    timed = len(_plan(method, part, way))
    with _layout(method, way):
        predict_maps(method, image[:side, :side], way.settings)  # fills caches
        finish()
        start = time.perf_counter()
        predict_maps(method, part, way.settings)
        finish()
    return 1000 * (time.perf_counter() - start), timed, count


def _published_output(method: HoVerNet) -> int:
    return method.recipe.crop - 2 * method.geometry.margin


def _plan(method: HoVerNet, image: NDArray[np.uint8], way: Way) -> list[Window]:
    largest = _published_output(method) if way.settings.published else way.settings.tile
    assert largest is not None
    height, width = image.shape[:2]
    return list(windows((height, width), method.geometry, largest, side_by_side=way.settings.published))


def _describe(method: HoVerNet, image: NDArray[np.uint8], way: Way) -> str:
    plan = _plan(method, image, way)
    height, width = (size + 2 * method.geometry.margin for size in (plan[0].height, plan[0].width))
    operations = len(plan) * count_operations(method, height, width)
    return f"{len(plan)} inputs of {height} x {width} px, {operations / 1e12:.2f} TFLOP"


def count_operations(method: HoVerNet, height: int, width: int) -> int:
    """Count the floating-point operations of one input, 2 per multiply-add, without computing anything."""
    state = {
        name: torch.empty_like(value, device="meta")
        for name, value in [*method.named_parameters(), *method.named_buffers()]
    }
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        torch.func.functional_call(method, state, (torch.empty((1, 3, height, width), device="meta"),))
    return int(counter.get_total_flops())


@contextmanager
def _layout(method: HoVerNet, way: Way) -> Iterator[None]:
    """Keep a network's weights and input in the memory layout of a way; inference itself uses channels last."""
    if not way.channels_first:
        yield
        return

    def channels_first(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode(mode=False):
            network.to(memory_format=torch.contiguous_format)
        return tuple(x.contiguous() for x in inputs)

    hook = method.network.register_forward_pre_hook(channels_first)
    try:
        yield
    finally:
        hook.remove()


def _networks(options: dict[str, Any], steps: int | None) -> tuple[HoVerNet, HoVerNet]:
    """Return the network to time, and an equivalent one that computes the label maps."""
    checked = check_options(HoVerNet, options)
    if checked.get("weights", NONE) != NONE:
        method = _on_device(HoVerNet(Task(), **checked))
        return method, method
    length = steps or STEPS[checked.get("mode", "original")]
    narrow = train(HoVerNet(Task(), **checked | {"weights": NONE, "features": NARROW}), length)
    if checked.get("features", FEATURES) == NARROW:
        return narrow, narrow
    wide = HoVerNet(Task(), **checked | {"weights": NONE})
    widen(narrow, wide)
    return _on_device(wide), narrow


def _on_device(method: HoVerNet) -> HoVerNet:
    method = method.to(memory_format=torch.channels_last)
    return (method.cuda() if torch.cuda.is_available() else method).eval()


def train(method: HoVerNet, steps: int, side: int = 1000, seed: int = 0) -> HoVerNet:
    """Train on crops of one synthetic image just until nuclei are found.

    Args:
        method: Method without types; modified in place.
        steps: Optimiser steps.
        side: Side of the image, in pixels; it differs from the timed images.
        seed: Seed of image, weights and crops.

    Returns:
        The method in eval mode, on the device that would train it.
    """
    rng = np.random.default_rng((seed, 1))
    image, truth = generate((side, side), rng, density=DENSITY)
    sample = Sample(image, truth, "synthetic", "synthetic", 40.0)
    draw = CropDrawer(method.recipe.crop, method.codec, "flips")
    method = _on_device(method).train()
    for decoder in method.network.decoders.values():
        assert isinstance(decoder, Decoder)
        # otherwise half of the steps are needed to unlearn the large outputs of random weights
        for parameter in decoder.out.parameters():
            nn.init.zeros_(parameter)
    optimizer = torch.optim.AdamW(method.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        losses = method.losses(collate(method, [draw(sample, rng) for _ in range(BATCH)]))
        optimizer.zero_grad()
        torch.autograd.backward(DISTANCES * losses["hv_mse"] + losses["np_ce"])
        optimizer.step()
        schedule.step()
    return method.eval()


def widen(narrow: HoVerNet, wide: HoVerNet) -> None:
    """Set the weights of a network so that it computes the same function as a narrower one.

    Args:
        narrow: Network of the same mode and branches.
        wide: Network whose widths are multiples of those of `narrow`; modified in place.
    """
    source = narrow.state_dict()
    widened = {}
    for name, target in wide.state_dict().items():
        value = source[name].detach().cpu()
        for axis in range(min(value.ndim, 2)):
            copies = target.shape[axis] // value.shape[axis]
            value = value.repeat_interleave(copies, axis) / (copies if axis else 1)
        widened[name] = value
    wide.load_state_dict(widened)


def main() -> None:
    """Time every way on images of some sizes, print a table and write it as CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000], help="sides of the images, px (default: 1000)")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of hovernet")
    parser.add_argument("--precision", default="auto", help="Lightning precision of the large tiles (default: auto)")
    parser.add_argument("--tiles", type=int, help="small tiles to time; the rest is extrapolated (default: all)")
    parser.add_argument("--steps", type=int, help="optimiser steps of the training (default: depends on the mode)")
    parser.add_argument("--out", type=Path, default=Path("leaderboards/speed"), help="output folder")
    given = parser.parse_args()
    if min(n for n in (*given.sizes, given.tiles, given.steps) if n is not None) < 1:
        parser.error("--sizes, --tiles and --steps must be 1 or more")
    if wrong := [text for text in given.option if "=" not in text]:
        parser.error(f"--option takes NAME=VALUE, not {wrong[0]}")
    options = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in given.option)}
    try:
        timings = [
            timing
            for side in given.sizes
            for timing in tiling_timings(options, side, given.precision, given.tiles, given.steps)
        ]
    except NucbenchError as error:
        parser.error(str(error))
    write_report(timings, "hovernet-tiling", given.precision, given.out)


if __name__ == "__main__":
    main()
