"""Models of an index on this machine: downloaded, verified and unpacked once."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path

from benchmark.host.files import file_hash, held
from benchmark.host.machine import cache_folder
from benchmark.results.model_folder import DESCRIPTION, WEIGHTS, Description, is_model_folder
from benchmark.results.model_index import Listed
from datamodules.reading.archive import Limits, unpack
from datamodules.reading.card import Download
from postproc.errors import ConfigError, DataError

LIMITS = Limits(members=1_000, size=20_000_000_000)
"""Limits of an archive of a model; its weights hardly shrink when packed."""
WAIT = 3600.0
"""Seconds to wait for another process that is getting the same model."""


def obtain_model(listed: Listed, mirror: str | None = None, *, progress: bool = True) -> Path:
    """Return the folder of a model in an index, which is downloaded unless a complete copy exists.

    Args:
        listed: The model.
        mirror: Address that serves the archive as ``NAME/FILE``, instead of the address in the index.
        progress: Show a progress bar.

    Raises:
        ConfigError: If another process is still downloading it.
        DataError: If it cannot be downloaded, has another hash, or is no model.
    """
    if listed.entry.folder is not None:
        return _in_place(listed)
    place = _place(listed)
    if (folder := _whole(place / "model")) is not None:
        return folder
    with held(place, "getting a model in", wait=WAIT):
        if (folder := _whole(place / "model")) is not None:  # by the process waited for
            return folder
        if (place / "model").exists():
            print(f"{listed.name}: the copy in {place / 'model'} is incomplete or has changed; it is replaced")
            shutil.rmtree(place / "model")
        archive = _archive(listed, place, mirror, progress)
        unpack(archive, place / "model", LIMITS)
        folder = _checked(place / "model", archive)
        if listed.is_remote or mirror:
            archive.unlink()
        return folder


def is_here(listed: Listed) -> bool:
    """Return whether a model needs no download."""
    return not listed.is_remote or _root(_place(listed) / "model") is not None


def _place(listed: Listed) -> Path:
    """Return the folder of a model; another archive under the same name has another folder."""
    return cache_folder() / "models" / f"{listed.name}-{listed.entry.sha256[:12]}"


def _in_place(listed: Listed) -> Path:
    """Return a model that the index names as a folder."""
    folder = Path(listed.source)
    where = f"{listed.index}: models.{listed.name}"
    if not is_model_folder(folder):
        raise DataError(f"{where}: folder is {folder}, which is no model folder (it has no {DESCRIPTION})")
    stated = Description.read(folder).sha256
    if stated != listed.entry.sha256:
        raise DataError(
            f"{where}: sha256 is {listed.entry.sha256}, but {folder / DESCRIPTION} describes weights with {stated}; "
            "correct the index"
        )
    return folder


def _archive(listed: Listed, place: Path, mirror: str | None, progress: bool) -> Path:
    """Return the verified archive of a model."""
    entry = listed.entry
    if not listed.is_remote and not mirror:
        path = Path(listed.source)
        if not path.is_file():
            raise ConfigError(f"{listed.index}: models.{listed.name}: archive {path} does not exist")
        if (found := file_hash(path)) != entry.sha256:
            raise DataError(f"{path}: sha256 is {found}, but expected {entry.sha256} ({listed.index}); copy it again")
        return path
    from benchmark.data.download import DownloadError, fetch

    url = f"{mirror.rstrip('/')}/{listed.name}/{entry.file}" if mirror else listed.source
    download = Download(entry.file, url, entry.size, f"sha256:{entry.sha256}", listed.index)
    try:
        return fetch(download, place, progress=progress)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nWithout this server: nucbench models {listed.name} --mirror ADDRESS, or unpack {entry.file} "
            "yourself and give its folder instead of the name."
        ) from error


def _checked(unpacked: Path, archive: Path) -> Path:
    """Return the model in an unpacked archive, which is removed again if there is none.

    Raises:
        DataError: If there is no model, it is of another version, or its weights are others than it describes.
    """
    root = _root(unpacked)
    try:
        if root is None:
            raise DataError(f"it has no {DESCRIPTION}")
        Description.read(root)
        if _whole(unpacked) is None:
            raise DataError(f"{WEIGHTS} is not the file that {DESCRIPTION} describes (its sha256 differs)")
    except (ConfigError, DataError) as error:
        shutil.rmtree(unpacked)
        reason = str(error).replace(f"{root}/", "")
        raise DataError(f"{archive} is not a model of this version of nucbench: {reason}") from None
    return root


def _root(unpacked: Path) -> Path | None:
    """Return the model folder in an unpacked archive: the archive itself, or the only folder in it."""
    if is_model_folder(unpacked):
        return unpacked
    inner = [path for path in unpacked.glob("*") if is_model_folder(path)]
    return inner[0] if len(inner) == 1 else None


def _whole(unpacked: Path) -> Path | None:
    """Return the model folder in an unpacked archive if its weights are those that it describes."""
    root = _root(unpacked)
    if root is None or not (root / WEIGHTS).is_file():
        return None
    try:
        stated = Description.read(root).sha256
    except (ConfigError, DataError):
        return None
    about = (root / WEIGHTS).stat()
    return root if _hash(root / WEIGHTS, about.st_mtime_ns, about.st_size) == stated else None


@lru_cache(maxsize=64)
def _hash(path: Path, modified: int, size: int) -> str:
    """Hash a file once per process: a command finds its model several times."""
    return file_hash(path)


__all__ = ["LIMITS", "is_here", "obtain_model"]
