"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from filelock import FileLock

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".numba_cache"))  # one for all test processes
os.environ.setdefault("WANDB_MODE", "disabled")  # offline is the default of `nucbench run`; its own tests ask for it


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
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder once for all test processes of a session; tests that change it take a copy.

    What the first test process writes that asks for a name, the others wait for.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = shared / "once" / name
        folder.mkdir(parents=True, exist_ok=True)
        done = folder.with_name(f"{name}.done")
        with FileLock(folder.with_name(f"{name}.lock")):
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return make


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


@pytest.fixture(scope="session")
def read_wandb() -> Callable[[Path], dict[str, Any]]:
    """Reads the folder of an offline W&B run back, as ``wandb sync`` does."""

    def read(folder: Path) -> dict[str, Any]:
        (path,) = folder.glob("*.wandb")
        found: dict[str, Any] = {"config": {}, "summary": {}, "history": [], "artifacts": [], "folder": folder}
        for record in _wandb_records(path.read_bytes()):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found["run"] = record.run
                found["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "config":
                for item in record.config.update:
                    _put(found["config"], item)
            elif kind == "summary":
                for item in record.summary.update:
                    _put(found["summary"], item)
            elif kind == "history":
                found["history"].append({})
                for item in record.history.item:
                    found["history"][-1]["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
            elif kind == "artifact":
                found["artifacts"].append(record.artifact)
            elif kind == "exit":
                found["exit"] = record.exit.exit_code
        return found

    return read


def _put(target: dict[str, Any], item: Any) -> None:
    keys = list(item.nested_key) or [item.key]
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    target[keys[-1]] = json.loads(item.value_json)


def _wandb_records(data: bytes) -> Iterator[Any]:
    """Yield the records of a .wandb file: LevelDB's log format behind 7 bytes that name the kind of file."""
    from wandb.proto import wandb_internal_pb2

    place, block, parts = 7, 32768, b""
    while place + 7 <= len(data):
        if block - place % block < 7:  # no header fits into the rest of the block
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
