"""`nucbench export --archive`: an exported folder as one file, that an index of models can name."""

from __future__ import annotations

import zipfile
from pathlib import Path

from benchmark.host.files import atomic, file_hash
from benchmark.results.model_folder import WEIGHTS, Description
from benchmark.results.model_index import entry_text, name_rule
from postproc.errors import ConfigError

_TIME = (1980, 1, 1, 0, 0, 0)
# of every member, so that the same model has the same hash


def archive_file(folder: Path) -> Path:
    """Return the archive of a model folder, next to it."""
    return folder.with_name(f"{folder.name}.zip")


def check_archive(folder: Path, name: str) -> None:
    """Check that a model can be archived under its name.

    Args:
        folder: Its folder, which need not exist.
        name: Its name; empty = name of the folder.

    Raises:
        ConfigError: If the archive exists, or the name does not fit an index.
    """
    if archive_file(folder).exists():
        raise ConfigError(f"{archive_file(folder)} exists; existing files are never overwritten. Give another folder.")
    if rule := name_rule(folder.name):
        raise ConfigError(f"{rule}; give another --to")
    if rule := name_rule(name or folder.name):
        raise ConfigError(f"{rule}; give another --name")


def write_archive(folder: Path, summary: str) -> str:
    """Write a model folder as an archive next to it.

    Args:
        folder: The model folder.
        summary: One sentence for the index; empty = method and training sets.

    Returns:
        An index with the model, as YAML.
    """
    path = pack(folder, f"{folder.name}/")
    model = Description.read(folder)
    return entry_text(model, model.name, path, file_hash(path), " ".join(summary.split()))


def pack(folder: Path, within: str = "") -> Path:
    """Write a folder of files as an archive next to it, and return the archive.

    Args:
        folder: The folder.
        within: Beginning of the names of all members.
    """
    path = archive_file(folder)
    with atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        for each in sorted(folder.iterdir()):
            member = zipfile.ZipInfo(f"{within}{each.name}", _TIME)
            member.external_attr = 0o644 << 16
            # weights hardly shrink, texts do
            member.compress_type = zipfile.ZIP_STORED if each.name == WEIGHTS else zipfile.ZIP_DEFLATED
            archive.writestr(member, each.read_bytes())
    return path


__all__ = ["archive_file", "check_archive", "pack", "write_archive"]
