"""The overlays that `nucbench predict` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.inference.decoding import decode_to_pictures
from benchmark.results.pictures import overlay
from datamodules.reading.files import read_rgb
from datamodules.synthetic.images import generate
from postproc.codecs.hover import HoverCodec, HoverParams


def test_the_picture_is_above_a_legend_with_a_scale_bar(tmp_path: Path) -> None:
    image, truth = generate((200, 260), np.random.default_rng(1), density=1.5e-3)
    codec = HoverCodec()
    maps = codec.perfect(codec.encode(truth))
    found = codec.decode(maps, HoverParams())
    heights = []
    for number, mpp in enumerate((0.5, None)):
        decode_to_pictures(maps, image, "image.png", codec, HoverParams(), (), tmp_path / f"image{number}", mpp)
        picture = read_rgb(tmp_path / f"image{number}_overlay.png")
        assert np.array_equal(picture[:200], overlay(image, found))
        strip = (picture[200:] == 0).all(axis=2)
        heights.append(int(strip.sum(axis=1).max()))
    assert heights[0] == 40  # 20 microns
    assert heights[1] < 40
