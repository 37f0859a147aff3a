"""Find run directories, wherever they were copied to and under whatever names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from datamodules.reading.plain_files import read_json_object
from postproc.errors import DataError

RECORD, SPEC = "record.json", "spec.json"
"""Files of a finished run, and of one that has begun."""

DEPTH = 3
"""Levels below a folder of runs at which one is looked for: ``<method>/<training set>/<run>``."""


def run_folders(root: Path) -> list[Path]:
    """Return the run directories in a folder, sorted: the folder itself, or those up to `DEPTH` levels below.

    Hidden folders and those that cannot be read are skipped.

    Args:
        root: Folder of runs or of collected scores, or a run directory.
    """
    found: list[Path] = []
    level = [Path(root)]
    for step in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            if (folder / RECORD).is_file() or (folder / SPEC).is_file():
                found.append(folder)
            elif step < DEPTH:
                with suppress(OSError):
                    below += [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
        level = below
    return sorted(found)


def run_folder(root: Path, run_id: str) -> Path:
    """Return the directory of a run: that of its id, or else of a run that was renamed or moved.

    Args:
        root: Folder of runs.
        run_id: Id of the run in its record.
    """
    place = Path(root) / run_id
    if not place.is_dir():
        for folder in run_folders(root):
            with suppress(DataError):
                if read_json_object(folder / RECORD, DataError, "").get("run_id") == run_id:
                    return folder
    return place


__all__ = ["RECORD", "SPEC", "run_folder", "run_folders"]
