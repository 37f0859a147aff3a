"""Put a dataset into the layout that its reader expects, from downloads or from archives of the user.

All archives are first unpacked into one hidden folder. If the reader of the dataset finds its images there, the folder
is renamed, and its files are moved to the folder of the dataset one by one. The next call continues after a kill.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmark.data.download import DownloadError, Patience, fetch
from benchmark.data.presence import DOWNLOADS, is_there
from benchmark.host.files import held
from datamodules.base import SYNTHETIC_MARKER, NucleiDataModule
from datamodules.reading.archive import ARCHIVE_SUFFIXES, is_archive, unpack
from datamodules.reading.card import DatasetCard
from postproc.errors import ConfigError, DataError

_UNPACKING = ".unpacking"
_READY = ".ready"
_DEPTH = 4
# maximum number of nested folders around a dataset in an archive


class ByHandError(DataError):
    """A dataset that must be downloaded by hand (form or sign-in); the message lists the steps."""


def obtain(
    kind: type[NucleiDataModule],
    folder: Path,
    *,
    archives: Sequence[Path] = (),
    mirror: str | None = None,
    progress: bool = True,
    patience: Patience | None = None,
) -> bool:
    """Put a dataset into its folder, unless it exists and no archives are given.

    Archives come from `archives`, otherwise from the folder ``downloads`` of the dataset if it contains archives other
    than the downloads of the card, otherwise from the addresses of the card. Existing files are never overwritten.

    Args:
        kind: The dataset.
        folder: Its folder.
        archives: Archives to unpack, even if part of the dataset exists.
        mirror: Address with the downloads as ``DATASET/FILE``, instead of the addresses of the card.
        progress: Show progress bars.
        patience: Limits of download retries; None = `Patience()`.

    Returns:
        Whether files were added.

    Raises:
        ByHandError: If the dataset is missing and cannot be downloaded; the message lists the steps.
        ConfigError: If another process is preparing the dataset, or one of `archives` is not an archive.
        DataError: If a download fails, or an archive is damaged, refused or has other content.
    """
    downloads = folder / DOWNLOADS
    for path in archives:
        if not path.is_file():
            raise ConfigError(f"archive {path} not found")
        if not is_archive(path):
            raise ConfigError(f"{path} is not an archive; --from accepts {', '.join(ARCHIVE_SUFFIXES)}")
    if archives and (folder / SYNTHETIC_MARKER).exists():
        raise DataError(f"{folder} has synthetic images, which are never mixed with real ones. Give another --data.")
    left_over = (folder / _READY).is_dir()
    if is_there(folder) and not archives and not left_over:
        return False
    if not archives and not left_over and not _supplied(downloads, kind.card) and not kind.card.downloads:
        raise ByHandError(by_hand(kind.card, folder))
    with held(downloads, "preparing a dataset from"):
        if (folder / _READY).is_dir():
            _move_in(folder)
        if archives or not is_there(folder):
            chosen = list(archives) or _supplied(downloads, kind.card)
            chosen = chosen or _download(kind.card, folder, mirror, progress, patience)
            _unpack_all(kind, folder, chosen)
            _move_in(folder)
            print(f"{kind.card.title}: unpacked {', '.join(path.name for path in chosen)} into {folder}")
    return True


def by_hand(card: DatasetCard, folder: Path) -> str:
    """Return instructions for getting a dataset by hand."""
    if not card.steps:
        return f"{card.title} is not in {folder}. It comes from {card.url}; expected layout:\n{card.layout}"
    return (
        f"{card.title} is not in {folder}. Get it by hand (terms: {card.licence}):\n"
        + "\n".join(steps(card, folder))
        + f"\nOr try a synthetic stand-in: nucbench prepare {card.name} --synthetic"
    )


def steps(card: DatasetCard, folder: Path) -> list[str]:
    """Return the numbered steps of a card with the folders inserted."""
    names = {"downloads": folder / DOWNLOADS, "folder": folder}
    return [f"{number}. {step.format(**names)}" for number, step in enumerate(card.steps, start=1)]


def _supplied(downloads: Path, card: DatasetCard) -> list[Path]:
    """Return the archives in the folder; none if all of them are downloads of the card."""
    if not downloads.is_dir():
        return []
    found = sorted(path for path in downloads.iterdir() if is_archive(path) and not path.name.startswith("."))
    known = {download.file for download in card.downloads}
    return found if any(path.name not in known for path in found) else []


def _download(
    card: DatasetCard, folder: Path, mirror: str | None, progress: bool, patience: Patience | None
) -> list[Path]:
    paths = []
    for download in card.downloads:
        url = f"{mirror.rstrip('/')}/{card.name}/{download.file}" if mirror else None
        try:
            paths.append(fetch(download, folder / DOWNLOADS, url=url, progress=progress, patience=patience))
        except DownloadError as error:
            steps = f"\n{by_hand(card, folder)}" if card.steps else ""
            raise DownloadError(f"{error}{steps}") from error
    return paths


def _unpack_all(kind: type[NucleiDataModule], folder: Path, archives: Sequence[Path]) -> None:
    """Unpack archives into one folder, and rename it to `_READY` if it contains the dataset."""
    work = folder / _UNPACKING
    shutil.rmtree(work, ignore_errors=True)
    merged = work / "merged"
    merged.mkdir(parents=True)
    try:
        nested: list[str] = []
        for number, archive in enumerate(archives):
            nested += unpack(archive, work / str(number)).nested
            _check_free(work / str(number), merged, f"{archive}: ")
            _move(work / str(number), merged)
        found = _find_root(kind, merged, archives, nested)
        _check_free(found, folder, "")
        found.rename(folder / _READY)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _find_root(kind: type[NucleiDataModule], merged: Path, archives: Sequence[Path], nested: Sequence[str]) -> Path:
    """Return the folder of the unpacked archives in which the reader finds images.

    Raises:
        DataError: If there is none; the message repeats the error of the reader for the outermost folder.
    """
    problems = []
    for folder in _candidates(merged, kind.card.inside):
        try:
            if kind.index(folder):
                return folder
        except DataError as error:
            problems.append(str(error).replace(f"{folder}/", "").replace(str(folder), "the archive"))
    names = ", ".join(str(path) for path in archives)
    inner = f" It contains archives ({', '.join(nested[:3])}): unpack it and give those instead." if nested else ""
    raise DataError(
        f"{names}: {kind.card.title} not found in it; nothing was changed.{inner} {(problems or [''])[0]}".strip()
    )


def _candidates(merged: Path, inside: str) -> list[Path]:
    """Return possible folders of the dataset: that of the card, then the outermost folder and those nested in it."""
    found = sorted(path for path in merged.glob(inside) if path.is_dir()) if inside else []
    folder = merged
    for _ in range(_DEPTH):
        found.append(folder)
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir():
            break
        folder = entries[0]
    return found


def _move_in(folder: Path) -> None:
    _check_free(folder / _READY, folder, "")
    _move(folder / _READY, folder)


def _check_free(source: Path, target: Path, place: str) -> None:
    """Raise a DataError if a file of `source` exists in `target` with other content."""
    for path in sorted(source.rglob("*")):
        other = target / path.relative_to(source)
        if path.is_dir() != other.is_dir() and other.exists():
            raise DataError(f"{place}{other} is in the way; move it elsewhere, nothing is overwritten")
        if path.is_file() and other.exists() and not filecmp.cmp(path, other, shallow=False):
            raise DataError(f"{place}{other} exists and differs; move it elsewhere, nothing is overwritten")


def _move(source: Path, target: Path) -> None:
    """Move the files of a folder to another one and remove the folder; existing files are kept."""
    for path in sorted(source.rglob("*")):
        other = target / path.relative_to(source)
        if path.is_dir():
            other.mkdir(exist_ok=True)
        elif not other.exists():
            path.rename(other)
    shutil.rmtree(source)


__all__ = ["ByHandError", "by_hand", "obtain", "steps"]
