"""Replace a report by a new one in one step, and nothing that is no report."""

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
"""Left behind by file managers; nobody misses it."""


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out` that takes its place when the block ends without an error.

    Where the block fails, the old report is as it was.

    Args:
        out: Folder of the report; made, with its parents, where missing.

    Raises:
        ConfigError: If `out` is there and is no report, or holds files of somebody else beside the report.
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
        check_replaceable(out)  # somebody may have written there meanwhile
        _swap(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """Check that a folder may be replaced: it is missing, empty, or a report and nothing else.

    Raises:
        ConfigError: If it may not.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file; give --out a folder")
    found = report_files(out)
    if not (out / MARKER).is_file():
        if found:
            raise ConfigError(
                f"{out} is not empty and no report ({MARKER} is missing), so it is not overwritten; give another --out"
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
            f"{out} holds files that are no part of the report, which would be lost: {', '.join(foreign[:3])}{more}; "
            "move them or give another --out"
        )


def report_files(folder: Path) -> list[str]:
    """Return the files below a folder, as sorted relative paths, without what file managers leave."""
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
