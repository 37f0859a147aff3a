"""Replace a report with a new one atomically, and never overwrite anything else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.host.files import read_json, write_json
from postproc.errors import ConfigError, DataError

MARKER = "nucbench-report.json"
"""File that marks a folder as a report and names its files."""

FORMAT = 1

_CLUTTER = {MARKER, ".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files of file managers that may be deleted."""


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield an empty folder next to `out` that replaces it when the block ends without an error.

    If the block fails, the old report is unchanged.

    Args:
        out: Folder of the report; created with its parents if missing.

    Raises:
        ConfigError: If `out` exists and is not a report, or holds files that do not belong to the report.
    """
    out = out.resolve()
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    try:
        yield fresh
        write_json(fresh / MARKER, {"format": FORMAT, "files": report_files(fresh)})
        umask = os.umask(0)
        os.umask(umask)
        fresh.chmod(0o777 & ~umask)
        check_replaceable(out)  # files may have been added in the meantime
        _swap(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """Check that a folder may be replaced: it is missing, empty, or holds only a report.

    Raises:
        ConfigError: If it may not be replaced.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file; give --out a folder")
    found = report_files(out)
    if not (out / MARKER).is_file():
        if found:
            raise ConfigError(
                f"{out} is not an empty folder or a report ({MARKER} is missing), so it is kept; give another --out"
            )
        return
    try:
        own = read_json(out / MARKER).get("files")
    except DataError:
        own = None
    if not isinstance(own, list):
        raise ConfigError(f"{out / MARKER} is broken, so {out} is not overwritten; delete it or give another --out")
    foreign = sorted(set(found) - set(own))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ConfigError(
            f"{out} holds files that do not belong to the report and would be lost: {', '.join(foreign[:3])}{more}; "
            "move them or give another --out"
        )


def report_files(folder: Path) -> list[str]:
    """Return the files in a folder as sorted relative paths, without those of file managers."""
    found = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in found if path.name not in _CLUTTER)


def _swap(fresh: Path, out: Path) -> None:
    if not out.exists():
        fresh.replace(out)
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".old"))
    out.replace(old)
    try:
        fresh.replace(out)
    except BaseException:
        old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


__all__ = ["MARKER", "check_replaceable", "replacing", "report_files"]
