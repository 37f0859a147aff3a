"""Unpack zip and tar archives from untrusted sources.

Either all members are unpacked or none: they are written into a folder next to the target, which is renamed to the
target at the end.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from postproc.errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
"""File name endings that `unpack` reads."""

_CHUNK = 1 << 20
_HEADER = 1 << 22
# most bytes of one read by tarfile: contents are read in chunks, so a larger read is a header that claims a huge size
_DRIVE = re.compile(r"[A-Za-z]:")
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    OSError, EOFError, ValueError, NotImplementedError, RuntimeError, MemoryError, OverflowError, IndexError, KeyError,
)  # fmt: skip
# exceptions of the standard library's decoders on damaged or malicious archives


@dataclass(frozen=True)
class Limits:
    """Limits of an archive; anything larger is treated as a decompression bomb.

    Attributes:
        members: Number of members.
        size: Bytes of all members unpacked.
        ratio: Bytes unpacked per byte of the archive, counted once more than `free` bytes are unpacked.
        free: Bytes below which the ratio is not checked: small texts compress a thousandfold.
    """

    members: int = 200_000
    size: int = 50_000_000_000
    ratio: float = 200.0
    free: int = 100_000_000


@dataclass(frozen=True)
class Unpacked:
    """Contents of an archive.

    Attributes:
        files: Number of files written.
        size: Their total size in bytes.
        nested: Archives among them, which are not unpacked.
    """

    files: int
    size: int
    nested: tuple[str, ...]


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive for `unpack`, by its name."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Unpacked:
    """Unpack an archive into a new folder, completely or not at all.

    Members that could be written elsewhere or harm their readers are refused: absolute paths, ``..``, drive letters,
    links, devices, names with control characters or in another encoding, duplicate names (ignoring case), encrypted
    members, and anything beyond `limits`. Files added by macOS (``__MACOSX``, ``.DS_Store``, ``._*``) are skipped.
    Archives inside the archive are not unpacked.

    Args:
        archive: A file that ends in one of `ARCHIVE_SUFFIXES`.
        target: The folder to create; must not exist.
        limits: Limits of the archive; None = `Limits()`.

    Raises:
        DataError: If the archive is missing, damaged or refused, the disk is too small, or `target` exists; the
            message names archive and member.
    """
    if not archive.is_file():
        raise DataError(f"{archive}: no such file")
    if not is_archive(archive):
        raise DataError(f"{archive}: archives end in {', '.join(ARCHIVE_SUFFIXES)}; unpack it yourself")
    if target.exists():
        raise DataError(f"{target} exists and is not overwritten")
    read = _unpack_zip if archive.name.lower().endswith(".zip") else _unpack_tar
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as folder:
        writer = _Writer(archive, folder, limits or Limits())
        try:
            read(archive, writer)
        except DataError:
            raise
        except _DAMAGED as error:
            reason = (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
            raise DataError(
                f"{archive}: cannot be unpacked, it may be damaged ({reason}); copy or download it again"
            ) from error
    return Unpacked(writer.files, writer.written, tuple(writer.nested))


def require_space(folder: Path, needed: float, purpose: str) -> None:
    """Raise a DataError if the disk of a folder, which may not exist yet, has less than `needed` bytes free."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DataError(
            f"{folder}: {purpose} takes about {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free; make room or "
            "give another folder"
        )


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield a folder that is renamed to `target` when the block ends without an error."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Writer:
    """Writer of members into a folder that checks their names and counts their contents."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.files = 0
        self.written = 0
        self.nested: list[str] = []
        self.limits = limits
        self._archive = archive
        self._folder = folder
        self._members = 0
        self._claimed = 0
        self._most = max(limits.ratio * archive.stat().st_size, limits.free)
        self._spelt: dict[str, str] = {}
        self._kinds: dict[str, bool] = {}

    def refuse(self, name: str, reason: str) -> DataError:
        """Return the error for a member."""
        return DataError(f"{self._archive}: refused, its member {name!r} {reason}; nothing was unpacked")

    def count(self) -> None:
        """Count a member, whether or not it is written."""
        self._members += 1
        if self._members > self.limits.members:
            raise DataError(
                f"{self._archive}: refused, it has more than {self.limits.members} members; nothing was unpacked"
            )

    def place(self, name: str, *, folder: bool) -> str | None:
        """Return the path of a member relative to the folder; None for files added by macOS.

        Raises:
            DataError: If the name must not be written.
        """
        if not name or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            raise self.refuse(name, "has no name, or one with control characters or in an unknown encoding")
        plain = name.replace("\\", "/")
        if plain.startswith("/") or _DRIVE.match(plain):
            raise self.refuse(name, "has an absolute path")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.refuse(name, "leads out of the folder")
        if not parts or "__MACOSX" in parts or parts[-1] == ".DS_Store" or parts[-1].startswith("._"):
            return None
        for depth in range(1, len(parts) + 1):
            self._take(name, "/".join(parts[:depth]), folder=folder or depth < len(parts))
        return "/".join(parts)

    def _take(self, name: str, path: str, *, folder: bool) -> None:
        """Refuse duplicate paths, ignoring case; folders may be repeated, files may not."""
        key = unicodedata.normalize("NFC", path).casefold()
        if self._spelt.setdefault(key, path) != path:
            raise self.refuse(name, f"has the name of {self._spelt[key]!r} except for capitals or accents")
        if key in self._kinds and not (folder and self._kinds[key]):
            raise self.refuse(name, "is in it twice")
        self._kinds[key] = folder

    def claim(self, name: str, size: int) -> None:
        """Refuse a member before reading it if the claimed total exceeds the limits or the disk space."""
        self._claimed += size
        self._allow(name, self._claimed)
        require_space(self._folder.parent, self._claimed - self.written, f"unpacking {self._archive}")

    def write(self, place: str, source: IO[bytes]) -> None:
        """Write a member; its actual size counts, not the claimed one."""
        path = self._folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while chunk := source.read(_CHUNK):
                self._allow(place, self.written + len(chunk))
                self.written += len(chunk)
                file.write(chunk)
        self.files += 1
        if is_archive(path):
            self.nested.append(place)

    def make(self, place: str) -> None:
        """Create a folder."""
        (self._folder / place).mkdir(parents=True, exist_ok=True)

    def _allow(self, name: str, total: int) -> None:
        if total > self.limits.size:
            raise self.refuse(name, f"expands it beyond the limit of {self.limits.size / 1e9:g} GB")
        if total > self._most:
            raise self.refuse(
                name, f"expands it to more than {self.limits.ratio:g} times its size, a decompression bomb"
            )


# ---- zip ----------------------------------------------------------------------------------------------------------


def _unpack_zip(archive: Path, writer: _Writer) -> None:
    _check_directory(archive, writer)
    with zipfile.ZipFile(archive) as file:
        chosen = []
        for info in file.infolist():
            writer.count()
            kind = stat.S_IFMT(info.external_attr >> 16)
            name = info.orig_filename  # `filename` ends at the first NUL
            if kind == stat.S_IFLNK:
                raise writer.refuse(name, "is a link")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.refuse(name, "is a device")
            place = writer.place(name, folder=info.is_dir())
            if place is None:
                continue
            if info.flag_bits & 0x2041:  # encrypted, in any of three ways
                raise writer.refuse(name, "is encrypted, unpack it yourself")
            writer.claim(name, info.file_size)
            chosen.append((info, place))
        for info, place in chosen:
            if info.is_dir():
                writer.make(place)
                continue
            with file.open(info) as source:
                writer.write(place, source)


def _check_directory(archive: Path, writer: _Writer) -> None:
    """Refuse a zip whose directory would exhaust the memory before any member could be counted."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - 100))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise DataError(f"{archive}: not a zip archive, or truncated; copy or download it again")
    (length,) = struct.unpack_from("<I", tail, at + 12)
    large = tail.rfind(b"PK\x06\x06", 0, at)
    if large >= 0 and len(tail) >= large + 56:
        (length,) = struct.unpack_from("<Q", tail, large + 40)
    most = writer.limits.members * 1000  # bytes per entry: 46 plus its name
    if length > min(most, 1 << 28):
        raise DataError(f"{archive}: refused, its list of members has {length} bytes; nothing was unpacked")


# ---- tar ----------------------------------------------------------------------------------------------------------


class _Cautious:
    """A file that refuses reads of more than `_HEADER` bytes: tarfile reads headers at once, at any claimed length.

    Args:
        file: The file to read.
        archive: The archive, for the message.
    """

    def __init__(self, file: IO[bytes], archive: Path) -> None:
        self._file = file
        self._archive = archive

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes."""
        if not 0 <= size <= _HEADER:
            raise DataError(f"{self._archive}: refused, one of its headers claims {size} bytes; nothing was unpacked")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def _unpack_tar(archive: Path, writer: _Writer) -> None:
    with _decompressed(archive) as stream:
        file: Any = _Cautious(stream, archive)
        with tarfile.open(fileobj=file, mode="r:", errorlevel=2) as tar:
            while (member := tar.next()) is not None:
                setattr(tar, "members", [])  # noqa: B010  # unknown to type checkers; it would keep them all
                writer.count()
                _unpack_member(tar, member, writer)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile accepts any end of file
                raise DataError(f"{archive}: the archive is truncated; copy or download it again")


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, writer: _Writer) -> None:
    if member.issym() or member.islnk():
        raise writer.refuse(member.name, "is a link")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise writer.refuse(member.name, "is a device or of an unsupported kind")
    # before the name is checked, since skipped members are decompressed too
    writer.claim(member.name, member.size)
    place = writer.place(member.name, folder=member.isdir())
    if place is None:
        return
    if member.isdir():
        writer.make(place)
        return
    source = tar.extractfile(member)
    if source is None:
        raise writer.refuse(member.name, "cannot be read")
    with source:
        writer.write(place, source)


@contextmanager
def _decompressed(archive: Path) -> Iterator[Any]:
    """Open the decompressor of a tar, chosen by its first bytes rather than its name."""
    with archive.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        if head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield unzipped
        elif head.startswith(b"BZh"):
            with bz2.BZ2File(file) as unzipped:
                yield unzipped
        elif head == b"\xfd7zXZ\0":
            with lzma.LZMAFile(file) as unzipped:
                yield unzipped
        else:
            yield file


__all__ = ["ARCHIVE_SUFFIXES", "Limits", "Unpacked", "is_archive", "require_space", "unpack"]
