"""Archives that anybody may have made: unpacked whole below the target, or refused with nothing left behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules.reading import archive
from datamodules.reading.archive import Limits, is_archive, require_space, unpack
from postproc.errors import DataError

SUFFIXES = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".tgz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress,
}  # fmt: skip
FILES = {"a/b/one.txt": b"one", "a/two.bin": bytes(range(256)) * 10, "three": b""}


def make(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    """Write an archive of the kind that the ending asks for, with the names exactly as given."""
    pairs = list(members.items()) if isinstance(members, dict) else members
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in pairs:
                info = zipfile.ZipInfo("x")
                info.filename = name
                info.compress_type = zipfile.ZIP_DEFLATED
                file.writestr(info, content)
        return path
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(buffer.getvalue()))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(path: Path, reason: str, limits: Limits | None = None) -> None:
    """Assert that an archive is refused by name, and that nothing of it lies anywhere."""
    before = tree(path.parent)
    with pytest.raises(DataError, match=reason) as caught:
        unpack(path, path.parent / "target", limits)
    assert str(path) in str(caught.value)
    assert tree(path.parent) == before
    assert not (path.parent / "target").exists()
    assert not list(path.parent.glob(".target*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_packed_comes_back(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"x{suffix}", FILES)
    result = unpack(path, tmp_path / "target")
    assert tree(tmp_path / "target") == FILES
    assert (result.files, result.size, result.nested) == (3, 2563, ())
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o755
    assert is_archive(path)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_litter_of_macos_is_passed_over(tmp_path: Path, suffix: str) -> None:
    litter = {"__MACOSX/a/._one": b"x", "a/.DS_Store": b"x", "a/._two": b"x", "./a/real": b"y", "a//other": b"z"}
    unpack(make(tmp_path / f"x{suffix}", litter), tmp_path / "target")
    assert tree(tmp_path / "target") == {"a/real": b"y", "a/other": b"z"}


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "absolute path"),
        ("\\\\server\\share", "absolute path"),
        ("C:/x", "absolute path"),
        ("c:x", "absolute path"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a/..", "leads out"),
        ("..\\x", "leads out"),
        ("a\nb", "control characters"),
        ("a\rb", "control characters"),
        ("a\x1b[31mb", "control characters"),
        ("a\u2028b", "control characters"),
    ],
)
def test_names_that_lead_elsewhere_or_harm(tmp_path: Path, suffix: str, name: str, reason: str) -> None:
    refused(make(tmp_path / f"x{suffix}", [("good", b"1"), (name, b"2")]), reason)


def test_name_with_nul(tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", [("good.txtXevil", b"1")])
    path.write_bytes(path.read_bytes().replace(b"good.txtXevil", b"good.txt\0evil"))
    refused(path, "control characters")


@pytest.mark.parametrize("suffix", [".zip", ".tar.xz"])
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a/x", "a/x"], "twice"),
        (["a/x", "a/./x"], "twice"),
        (["a/x", "a/X"], "except for capitals"),
        (["Train/x", "train/y"], "except for capitals"),
        (["a", "a/x"], "twice"),
        (["\u00e9", "e\u0301"], "except for capitals or accents"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_collide(tmp_path: Path, suffix: str, names: list[str], reason: str) -> None:
    refused(make(tmp_path / f"x{suffix}", [(name, b"1") for name in names]), reason)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
        (tarfile.GNUTYPE_SPARSE, "device or of an unsupported kind"),
    ],
)
def test_tar_members_that_are_no_files(tmp_path: Path, kind: bytes, reason: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("inside")
        member.type = kind
        member.linkname = "good"  # even one that stays inside
        tar.addfile(member)
    refused(path, f"'inside' .*{reason}")


@pytest.mark.parametrize(("mode", "reason"), [(stat.S_IFLNK, "link"), (stat.S_IFCHR, "device"), (stat.S_IFIFO, "dev")])
def test_zip_members_that_are_no_files(tmp_path: Path, mode: int, reason: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        info = zipfile.ZipInfo("inside")
        info.external_attr = (mode | 0o777) << 16
        file.writestr(info, "../../outside")
    refused(tmp_path / "x.zip", reason)


def test_encrypted_member(tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", {"secret": b"1"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + offset
        content[at] |= 1
    path.write_bytes(content)
    refused(path, "'secret' is encrypted")


class TestBombs:
    LIMITS = Limits(members=50, size=1_000_000, ratio=20, free=10_000)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_size(self, tmp_path: Path, suffix: str) -> None:
        noise = bytes(range(256)) * 3000
        refused(make(tmp_path / f"x{suffix}", {"a": noise, "b": noise}), "'b' expands it beyond|'a' expands it to more "
                "than 20 times", self.LIMITS)  # fmt: skip

    @pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz", ".tar.bz2"])
    def test_ratio(self, tmp_path: Path, suffix: str) -> None:
        refused(make(tmp_path / f"x{suffix}", {"a": bytes(500_000)}), "20 times its size", self.LIMITS)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_members(self, tmp_path: Path, suffix: str) -> None:
        path = make(tmp_path / f"x{suffix}", {str(k): b"" for k in range(51)})
        refused(path, "more than 50 members", self.LIMITS)
        assert unpack(path, tmp_path / "target").files == 51

    def test_litter_counts(self, tmp_path: Path) -> None:
        litter = {f"__MACOSX/{k}": bytes(100_000) for k in range(20)}
        refused(make(tmp_path / "x.tar.gz", litter), "times its size", self.LIMITS)

    def test_zip_that_lies_about_sizes(self, tmp_path: Path) -> None:
        path = make(tmp_path / "x.zip", {"a": bytes(500_000)})
        content = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            struct.pack_into("<I", content, content.index(signature) + offset, 10)
        path.write_bytes(content)
        refused(path, "cannot be unpacked", self.LIMITS)

    def test_tar_header_that_claims_gigabytes(self, tmp_path: Path) -> None:
        member = tarfile.TarInfo("PaxHeaders/x")
        member.type, member.size = tarfile.XHDTYPE, 4_000_000_000
        block = member.tobuf(tarfile.USTAR_FORMAT)
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(block + bytes(100_000)))
        refused(tmp_path / "x.tar.gz", "headers claims")

    def test_zip_directory_that_claims_gigabytes(self, tmp_path: Path) -> None:
        path = make(tmp_path / "x.zip", FILES)
        content = bytearray(path.read_bytes())
        struct.pack_into("<I", content, content.rindex(b"PK\x05\x06") + 12, 1 << 31)
        path.write_bytes(content)
        refused(path, "list of members")


def test_archives_in_archives_stay_packed(tmp_path: Path) -> None:
    inner = make(tmp_path / "inner.zip", FILES).read_bytes()
    result = unpack(make(tmp_path / "outer.tar.gz", {"d/inner.zip": inner}), tmp_path / "target")
    assert result.nested == ("d/inner.zip",)
    assert tree(tmp_path / "target") == {"d/inner.zip": inner}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    path = make(tmp_path / f"x{suffix}", FILES)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "damaged|truncated")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_archive_at_all(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_text("<html>please sign in</html>" * 50)
    refused(tmp_path / f"x{suffix}", "damaged|truncated")


def test_damaged_contents(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a", "content")
    path.write_bytes(path.read_bytes().replace(b"content", b"contenT"))
    refused(path, "Bad CRC-32")


def test_target_that_exists_missing_files_and_other_kinds(tmp_path: Path) -> None:
    path = make(tmp_path / "x.zip", FILES)
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="there exists"):
        unpack(path, tmp_path / "there")
    with pytest.raises(DataError, match="no such file"):
        unpack(tmp_path / "missing.zip", tmp_path / "target")
    with pytest.raises(DataError, match="archives end in"):
        unpack(path.rename(tmp_path / "x.rar"), tmp_path / "target")


def test_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_space(tmp_path / "not" / "there" / "yet", 1, "a byte")
    with pytest.raises(DataError, match=r"a lot takes about 1,000,000,000,000.0 MB, and .* MB are free"):
        require_space(tmp_path, 1e18, "a lot")
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    refused(make(tmp_path / "x.zip", FILES), "are free")
