"""Damaged, mislabelled and malicious files: one DataError that names the file, and nothing is executed."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image

from datamodules.cpm15 import read_mask_text, write_mask_text
from datamodules.points_csv import PointsCSV
from datamodules.reading import files
from datamodules.reading.files import read_instances, read_rgb, write_label_png, write_rgb
from datamodules.reading.rasters import image_raster
from datamodules.reading.slides import Slide
from postproc.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def encoded(path: Path) -> bytes:
    """Write noise in the format that the ending asks for, and return the bytes."""
    if path.suffix == ".jpg":
        Image.fromarray(NOISE).save(path)
    else:
        write_rgb(path, NOISE)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_truncated_images(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    content = encoded(path)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"cut\{suffix}"):
        read_rgb(path)


def test_tiff_without_compression_truncated(tmp_path: Path) -> None:
    # the header comes first here, so that only the pixels are missing: decoders tend to fill up with zeros
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, NOISE, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"cut\.tif"):
        read_rgb(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp", ".mat", ".npy"])
def test_garbage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(DataError, match=rf"x\{suffix}"):
        (read_instances if suffix in (".mat", ".npy") else read_rgb)(path)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in (".png", ".tif", ".bmp"):
        path = tmp_path / f"x{suffix}"
        content = bytearray(encoded(path))
        for _ in range(60):
            spoilt = bytearray(content)
            for position in rng.integers(0, len(content), 4):
                spoilt[position] = rng.integers(256)
            path.write_bytes(spoilt)
            assert outcome(path) in ("uint8", "error that names the file")


def outcome(path: Path) -> str:
    try:
        return str(read_rgb(path).dtype)
    except DataError as error:
        return "error that names the file" if path.name in str(error) else str(error)


def png(width: int, height: int, depth: int, colour: int, data: bytes = b"") -> bytes:
    """Build a PNG of a header, whatever it claims, and `data`."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_decompression_bombs_are_not_decoded(tmp_path: Path) -> None:
    for side in (12_500, 60_000, 100_000):
        (tmp_path / "bomb.png").write_bytes(png(side, side, 8, 2, bytes(1000)))
        for reader in (read_rgb, read_instances):
            with pytest.raises(DataError, match=r"bomb\.png: .*limit"):
                reader(tmp_path / "bomb.png")


def jpeg_that_claims(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, side, side)
    return bytes(content)


def bmp_that_claims(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "BMP")
    content = bytearray(buffer.getvalue())
    struct.pack_into("<ii", content, 18, side, side)
    return bytes(content)


def tiff_that_claims(path: Path, side: int, **kind: object) -> bytes:
    """Write a TIFF and give its first page another size, in its tags of 4 bytes."""
    tifffile.imwrite(path, np.tile(NOISE, (4, 4, 1)), photometric="rgb", metadata=None, **kind)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for tag in ("ImageWidth", "ImageLength"):
            place = file.pages.first.tags[tag].offset
            struct.pack_into("<HIH", content, place + 2, 3, 1, 0)
            struct.pack_into("<HII", content, place + 2, 4, 1, side)
    return bytes(content)


@pytest.mark.parametrize("kind", ["jpg", "bmp", "tif", "tif with tiles"])
def test_headers_that_claim_a_huge_image(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"huge.{kind[:3]}"
    if kind == "jpg":
        path.write_bytes(jpeg_that_claims(65_500))
    elif kind == "bmp":
        path.write_bytes(bmp_that_claims(100_000))
    else:
        path.write_bytes(tiff_that_claims(path, 100_000, **({"tile": (16, 16)} if "tiles" in kind else {})))
    tracemalloc.start()
    for reader in (read_rgb, image_raster):
        with pytest.raises(DataError, match=rf"huge\.{kind[:3]}: .*(limit|truncated|cannot be read by region)"):
            reader(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


def test_slide_that_claims_a_huge_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.svs"
    about = "Aperio Image Library v12\r\n200x160 (16x16)|AppMag = 40|MPP = 0.25"
    for side, reason in ((100_000, "truncated"), (2_000_000, "it is not a slide")):
        path.write_bytes(tiff_that_claims(path, side, tile=(16, 16), description=about))
        with pytest.raises(DataError, match=rf"huge\.svs: .*{reason}"):
            Slide(path)


def test_names_in_datasets(tmp_path: Path) -> None:
    PointsCSV.write_synthetic(tmp_path, images=1, size=48)
    first = next((tmp_path / "train").glob("*.png"))
    first.with_name(f"{first.stem}_regions.png").unlink(missing_ok=True)
    for name in ("<img src=x onerror=alert(1)>", 'a"b;c,d', "=1+1", "été"):
        for suffix in (".png", ".csv"):
            path = first.with_suffix(suffix)
            path.rename(path.with_name(name + suffix))
        first = first.with_name(f"{name}.png")
        (record,) = PointsCSV(tmp_path).records
        assert record.image_id == name
        assert PointsCSV.read(record).truth.count > 0
    for name in ("a\nb", "a\x1b[2Jb", "a\u2028b", os.fsdecode(b"a\xffb")):
        bad = first.rename(first.with_name(f"{name}.png"))
        first.with_suffix(".csv").rename(bad.with_suffix(".csv"))
        first = bad
        with pytest.raises(DataError, match="rename it") as caught:
            _ = PointsCSV(tmp_path).records
        assert str(caught.value).isprintable()


def test_slides_with_a_line_break_in_their_name(tmp_path: Path) -> None:
    (tmp_path / "a\nb.svs").write_bytes(b"x")
    with pytest.raises(DataError, match="rename it"):
        Slide(tmp_path / "a\nb.svs")


def test_limit_holds_for_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.ones((20, 20), np.int32)
    np.save(tmp_path / "x.npy", labels)
    scipy.io.savemat(tmp_path / "x.mat", {"inst_map": labels}, do_compression=True)
    write_label_png(tmp_path / "x.png", labels)
    tifffile.imwrite(tmp_path / "x.tif", labels)
    for path in sorted(tmp_path.iterdir()):
        assert read_instances(path).count == 1
    monkeypatch.setattr(files, "MAX_PIXELS", 399)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match="limit of 399"):
            read_instances(path)


@pytest.mark.parametrize("colour", [0, 2])
def test_sixteen_bits_are_refused(tmp_path: Path, colour: int) -> None:
    (tmp_path / "deep.png").write_bytes(png(2, 2, 16, colour, bytes(100)))
    with pytest.raises(DataError, match=r"deep\.png: 16 bits"):
        read_rgb(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", NOISE.astype(np.uint16), photometric="rgb")
    with pytest.raises(DataError, match=r"deep\.tif: uint16"):
        read_rgb(tmp_path / "deep.tif")


def test_other_colour_spaces_are_refused(tmp_path: Path) -> None:
    Image.fromarray(NOISE).convert("CMYK").save(tmp_path / "x.jpg")
    with pytest.raises(DataError, match="CMYK"):
        read_rgb(tmp_path / "x.jpg")
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((5, 5, 4), np.uint8), photometric="separated")
    with pytest.raises(DataError, match="colours stored as"):
        read_rgb(tmp_path / "x.tif")


def test_missing_files_folders_and_endings(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("missing.png", "folder.png"):
        with pytest.raises(DataError, match=rf"{name}: no such file"):
            read_rgb(tmp_path / name)
    with pytest.raises(DataError, match=r"x\.webp: image files end in"):
        read_rgb(tmp_path / "x.webp")
    with pytest.raises(DataError, match=r"x\.txt: label maps end in"):
        read_instances(tmp_path / "x.txt")


class Exploit:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    np.save(tmp_path / "x.npy", np.array([Exploit(proof)], object), allow_pickle=True)
    (tmp_path / "y.npy").write_bytes(pickle.dumps(Exploit(proof)))
    for name in ("x.npy", "y.npy"):
        with pytest.raises(DataError, match=name):
            read_instances(tmp_path / name)
    assert not proof.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert proof.exists(), "the exploit works where pickles are loaded"


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((4, 4), 0.5), "fractions"),
        (np.full((4, 4), -1), "outside"),
        (np.full((4, 4), np.nan), "outside"),
        (np.full((4, 4), 2.0**40), "outside"),
        (np.zeros((4, 4, 3), int), "one channel"),
        (np.zeros(16, int), "one channel"),
        (np.zeros((0, 4), int), "no pixel"),
        (np.full((4, 4), "a"), "expected integers"),
        (np.full((4, 4), 1j), "expected integers"),
    ],
)
def test_arrays_that_are_no_label_map(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=rf"x\.npy: .*{reason}"):
        read_instances(tmp_path / "x.npy")


def test_archive_in_place_of_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"x\.npy: an archive"):
        read_instances(tmp_path / "x.npy")


def test_colours_are_no_ids(tmp_path: Path) -> None:
    write_rgb(tmp_path / "x.png", NOISE)
    with pytest.raises(DataError, match=r"x\.png: .*colours are not ids"):
        read_instances(tmp_path / "x.png")
    tifffile.imwrite(tmp_path / "x.tif", NOISE, photometric="rgb")
    with pytest.raises(DataError, match=r"x\.tif: .*one channel"):
        read_instances(tmp_path / "x.tif")


class TestMaskText:
    def test_round_trip_and_order(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_text("5 4\n" + "\n".join("00000011001120002220") + "\n")
        read = read_mask_text(tmp_path / "x.txt")
        expected = [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 2, 0, 0], [0, 2, 2, 2, 0]]
        np.testing.assert_array_equal(read.labels, expected)
        write_mask_text(tmp_path / "y.txt", np.array(expected, np.int32))
        assert (tmp_path / "y.txt").read_text() == (tmp_path / "x.txt").read_text()

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "width height"),
            ("5", "width height"),
            ("0 4\n", "width height"),
            ("2 2\n0\n1\n2\n", "3 pixels for 2 x 2"),
            ("2 2\n0\n1\n2\n0\n0\n", "5 pixels for 2 x 2"),
            ("2 2\n0\n1\n-2\n0\n", "negative id"),
            ("2 2\n0\n1\nx\n0\n", "whole numbers"),
            ("2 2\n0\n1\n1.5\n0\n", "whole numbers"),
            ("2 2\n0\n1\n12345678901\n0\n", "more than 9 characters"),
            ("999999999 999999999\n0\n", "1 pixels"),
        ],
    )
    def test_broken_files(self, tmp_path: Path, text: str, reason: str) -> None:
        (tmp_path / "x.txt").write_text(text)
        with pytest.raises(DataError, match=rf"x\.txt: .*{reason}"):
            read_mask_text(tmp_path / "x.txt")
