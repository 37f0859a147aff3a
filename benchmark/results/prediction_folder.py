"""The output folder of `nucbench predict`: its files, which images are done, and which files may be replaced.

A hidden file, `LEDGER`, lists for each image its result files, how they were made, and the nuclei found. Files that are
not listed belong to the user and are never replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.host.files import file_hash, held, read_json, write_json
from benchmark.host.outputs import OVERLAY
from benchmark.results.summary import SUMMARY, ImageSummary, write_summary
from datamodules.reading.temporary import RANDOM
from postproc.errors import ConfigError, DataError

LEDGER = ".predictions.json"
"""File that lists the results of a folder."""
TEMPORARY = ".nucbench-predict-"
"""Prefix of folders with temporary files of a large image, written by versions before 0.3."""
WORK = ".nucbench-work-"
"""Prefix of the folder with intermediate results of a large image; kept by an interruption, and used to resume."""
SMALL, BY_REGION = (".mat", OVERLAY, ".geojson"), (".tif", OVERLAY, ".geojson", ".csv")
"""Suffixes of the results of an image: one processed in memory, and one processed by region."""
COMPRESSED = ".gz"
"""Suffix of compressed GeoJSON."""
FORMAT = 1
SAVE_SECONDS = 2.0
"""Minimum time between two writes of the ledger. Images that a killed command had not recorded are done again."""


class PredictionFolder:
    """Results of predictions; open with `hold`.

    Args:
        path: The folder.

    Raises:
        DataError: If its ledger is damaged or has another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images = _read(path / LEDGER)
        self._plans: dict[str, Sequence[str]] = {}
        self._saved = 0.0

    @classmethod
    @contextmanager
    def hold(cls, path: Path) -> Iterator[PredictionFolder]:
        """Lock a folder, creating it if missing, remove what a killed command left, and save the ledger at the end.

        Raises:
            BusyError: If another process is writing to it.
            DataError: If its ledger is damaged or has another version.
        """
        with held(path, "predicting into"):
            folder = cls(path)
            folder._clear()
            try:
                yield folder
            finally:
                if folder._saved:
                    folder.save()

    def claim(self, plans: Mapping[Path, Sequence[str]], *, again: bool) -> None:
        """Record which results are about to be written, before any of them is.

        Args:
            plans: Image -> names of its result files.
            again: Whether results of another image of the same name may be replaced.

        Raises:
            ConfigError: If this would replace a file that `predict` did not write, or results of another image.
        """
        own = {name for entry in self._images.values() for name in entry["files"]}
        summary = self.path / SUMMARY
        if not self._images and os.path.lexists(summary):
            raise ConfigError(f"{summary} exists and was not written by `nucbench predict`; give another --out")
        for image, names in plans.items():
            for name in names:
                if name not in own and os.path.lexists(self.path / name):
                    raise ConfigError(
                        f"{self.path / name} exists and was not written by `nucbench predict`; give another --out"
                    )
            entry = self._images.get(image.stem)
            if entry and not again and entry.get("source") not in (None, str(image.resolve())):
                raise ConfigError(
                    f"{self.path} holds the results of another image named {image.stem}, {entry['source']}; "
                    f"give another --out for {image}, or replace them with --again"
                )
        for image, names in plans.items():
            entry = self._images.setdefault(image.stem, {"source": str(image.resolve()), "files": []})
            entry["files"] = sorted({*entry["files"], *names})
            entry["pending"] = True  # from now on its results may be half old, half new
        self._plans.update({image.stem: names for image, names in plans.items()})
        self.save()

    def release(self, image: Path) -> None:
        """Record that an image failed: give up the claim on the files that were not written."""
        entry = self._images[image.stem]
        entry["files"] = [name for name in entry["files"] if (self.path / name).exists()]
        if not entry["files"] and "how" not in entry:
            del self._images[image.stem]

    def is_done(self, image: Path, how: dict[str, Any]) -> bool:
        """Tell whether the results of an unchanged image exist and were made in the same way.

        An image is unchanged if its path, size and modification time are the same, or else its size and content.
        """
        entry = self._images.get(image.stem)
        if entry is None or entry.get("how") != how or entry.get("image") != image.name or "pending" in entry:
            return False
        if not all((self.path / name).is_file() for name in entry["files"]):
            return False
        try:
            stamp = _stamp(image)
            if entry["source"] == str(image.resolve()) and entry["stamp"] == stamp:
                return True
            return bool(entry["stamp"][0] == stamp[0] and entry["sha256"] == file_hash(image))
        except OSError:
            return False

    def note(self, image: Path, how: dict[str, Any], read: dict[str, Any], found: ImageSummary) -> None:
        """Record an image as done, and delete earlier results of it under names that are no longer used.

        Args:
            image: The image.
            how: How the results were made.
            read: Result of `identity` before the image was read.
            found: Summary of its nuclei.
        """
        for name in set(self._images[image.stem]["files"]) - set(self._plans[image.stem]):
            (self.path / name).unlink(missing_ok=True)
        written = [name for name in self._plans[image.stem] if (self.path / name).exists()]
        counts = {"nuclei": found.nuclei, "types": dict(found.types)}
        self._images[image.stem] = {"image": image.name, **read, "files": written, "how": how, **counts}
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def summary(self, image: Path) -> ImageSummary:
        """Return the summary of a finished image."""
        return _summary(self._images[image.stem])

    def save(self) -> None:
        """Write the ledger, and the summary with a row for each finished image."""
        write_json(self.path / LEDGER, {"format": FORMAT, "images": self._images})
        self._saved = time.monotonic()
        done = [_summary(entry) for entry in self._images.values() if "how" in entry]
        if done:
            write_summary(self.path / SUMMARY, done)

    def _clear(self) -> None:
        """Remove temporary files of killed commands, but only those named after results."""
        own = {name for entry in self._images.values() for name in entry["files"]} | {LEDGER, SUMMARY}
        for path in self.path.iterdir():
            if re.fullmatch(re.escape(TEMPORARY) + RANDOM, path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
                continue
            whole = re.fullmatch(rf"\.(.+)\.{RANDOM}\.part", path.name, re.DOTALL)
            apart = re.fullmatch(rf"\.(.+)-{RANDOM}(\.mat|\.tif)", path.name, re.DOTALL)
            name = whole[1] if whole else apart[1] + apart[2] if apart else None
            if name in own and path.is_file():
                path.unlink(missing_ok=True)


def results_in(path: Path) -> set[str]:
    """Return the names of the files that a folder lists as results; empty if it has no readable ledger."""
    try:
        return {name for entry in _read(path / LEDGER).values() for name in entry["files"]}
    except DataError:
        return set()


def identity(image: Path) -> dict[str, Any]:
    """Return path, size, modification time and content digest of an image, as JSON types."""
    return {"source": str(image.resolve()), "stamp": _stamp(image), "sha256": file_hash(image)}


def _stamp(image: Path) -> list[int]:
    found = image.stat()
    return [found.st_size, found.st_mtime_ns]


def _summary(entry: dict[str, Any]) -> ImageSummary:
    return ImageSummary(entry["image"], entry["nuclei"], entry["types"])


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return name of each image without extension -> its entry."""
    if not path.exists():
        return {}
    content = read_json(path)
    images = content.get("images")
    if content.get("format") != FORMAT or not isinstance(images, dict) or not all(map(_is_entry, images.values())):
        raise DataError(f"{path} was not written by this version of nucbench; give another --out")
    return images


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), list):
        return False
    if not all(isinstance(name, str) and "/" not in name for name in entry["files"]):
        return False
    if "how" not in entry:
        return True
    kinds = {"image": str, "source": str, "stamp": list, "sha256": str, "nuclei": int, "types": dict}
    return all(isinstance(entry.get(key), kind) for key, kind in kinds.items()) and len(entry["stamp"]) == 2


__all__ = [
    "BY_REGION", "COMPRESSED", "LEDGER", "OVERLAY", "SMALL", "WORK", "PredictionFolder", "identity", "results_in",
]  # fmt: skip
