"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"{variable} names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real datasets."""
    return _folder("NUCBENCH_DATA")


@pytest.fixture(scope="session")
def golden_root() -> Path:
    """Folder of the figures computed with official implementations."""
    return _folder("NUCBENCH_GOLDEN")


@pytest.fixture(scope="session")
def write_slide() -> Callable[..., None]:
    """Writes a whole slide as Aperio scanners do: tiled, with a thumbnail and smaller levels."""

    def write(
        path: Path,
        image: np.ndarray[Any, Any],
        *,
        about: str = "|AppMag = 40|MPP = 0.25",
        levels: tuple[int, ...] = (1, 4),
        compression: str = "deflate",
    ) -> None:
        height, width = image.shape[:2]
        with tifffile.TiffWriter(path) as file:
            for factor in levels:
                size = (width // factor, height // factor)
                level = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor > 1 else image
                text = f"Aperio Image Library v12\r\n{width}x{height} (240x240)"
                text += about if factor == 1 else f" -> {size[0]}x{size[1]}"
                kinds: dict[str, Any] = {"photometric": "rgb", "compression": compression, "metadata": None}
                file.write(level, tile=(240, 240), description=text, **kinds)
                if factor == 1:
                    thumbnail = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
                    file.write(thumbnail, description=f"{text} thumbnail", **kinds)

    return write
