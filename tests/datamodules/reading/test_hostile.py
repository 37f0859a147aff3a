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
from datamodules.reading import aperio, files
from datamodules.reading.aperio import rasterise, read_aperio, read_polygons, write_aperio
from datamodules.reading.files import read_instances, read_rgb, write_label_png, write_rgb
from datamodules.reading.rasters import image_raster
from datamodules.reading.slides import Slide
from datamodules.synthetic.images import generate
from postproc.errors import DataError, InputWarning

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
    for side, reason in ((100_000, "truncated"), (2_000_000, "it is no slide")):
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
    with pytest.raises(DataError, match=r"x\.svs: image files end in"):
        read_rgb(tmp_path / "x.svs")
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
    with pytest.raises(DataError, match=r"x\.png: .*colours are no ids"):
        read_instances(tmp_path / "x.png")
    tifffile.imwrite(tmp_path / "x.tif", NOISE, photometric="rgb")
    with pytest.raises(DataError, match=r"x\.tif: .*one channel"):
        read_instances(tmp_path / "x.tif")


def annotation(*regions: str, mpp: str = "") -> str:
    body = "".join(regions)
    return f"<Annotations{mpp}><Annotation Id='1'><Regions>{body}</Regions></Annotation></Annotations>"


def region(*points: tuple[float, float], negative: int = 0) -> str:
    vertices = "".join(f"<Vertex X='{x}' Y='{y}'/>" for x, y in points)
    return f"<Region Id='7' NegativeROA='{negative}'><Vertices>{vertices}</Vertices></Region>"


SQUARE = region((2, 3), (6, 3), (6, 8), (2, 8))


class TestXML:
    def write(self, tmp_path: Path, text: str) -> Path:
        path = tmp_path / "x.xml"
        path.write_text(text, encoding="utf-8")
        return path

    def test_entity_bomb(self, tmp_path: Path) -> None:
        entities = "".join(f"<!ENTITY e{k} '{f'&e{k - 1};' * 10}'>" for k in range(1, 12))
        bomb = f"<!DOCTYPE x [<!ENTITY e0 'ha'>{entities}]><Annotations>&e11;</Annotations>"
        with pytest.raises(DataError, match=r"x\.xml: refused"):
            read_polygons(self.write(tmp_path, bomb))

    def test_external_entity(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        text = f"<!DOCTYPE x [<!ENTITY e SYSTEM 'file://{tmp_path}/secret'>]><Annotations>&e;</Annotations>"
        with pytest.raises(DataError, match=r"x\.xml: refused"):
            read_polygons(self.write(tmp_path, text))

    @pytest.mark.parametrize("names", [("tissue", "nuclei"), ("", "Nucleus")])
    def test_layers_named_after_nuclei(self, tmp_path: Path, names: tuple[str, str]) -> None:
        tissue = region((0, 0), (30, 0), (30, 30), (0, 30))
        layers = [
            f"<Annotation Id='{n}' Name='{name}'>{r}</Annotation>"
            for n, (name, r) in enumerate(zip(names, (tissue, SQUARE), strict=True))
        ]
        path = self.write(tmp_path, f"<Annotations>{''.join(layers)}</Annotations>")
        with pytest.warns(InputWarning, match=f"left out: {names[0] or 'Id 0'}"):
            nuclei, _ = read_aperio(path, (40, 40))
        assert nuclei.count == 1
        assert nuclei.labels is not None
        assert nuclei.labels.sum() == 20

    def test_every_layer_is_read_where_none_is_named_after_nuclei(self, tmp_path: Path) -> None:
        shapes = {"Epithelial": SQUARE, "Lymphocyte": region((12, 3), (16, 3), (16, 8), (12, 8))}
        layers = "".join(f"<Annotation Name='{name}'>{shape}</Annotation>" for name, shape in shapes.items())
        nuclei, _ = read_aperio(self.write(tmp_path, f"<Annotations>{layers}</Annotations>"), (40, 40))
        assert nuclei.count == 2

    def test_an_outline_around_nuclei_is_left_out(self, tmp_path: Path) -> None:
        nuclei = [region(*((x + dx, 3 + dy) for dx, dy in ((0, 0), (4, 0), (4, 5), (0, 5)))) for x in (2, 10, 18, 26)]
        path = self.write(tmp_path, annotation(region((0, 0), (38, 0), (38, 20), (0, 20)), *nuclei))
        with pytest.warns(InputWarning, match="1 regions around 3 or more others"):
            found, _ = read_aperio(path, (40, 40))
        assert found.count == 4

    @pytest.mark.parametrize("text", ["", "no xml", annotation(SQUARE)[:-20], "<a></b>", "\0"])
    def test_no_xml(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(DataError, match=r"x\.xml: no valid XML"):
            read_polygons(self.write(tmp_path, text))

    @pytest.mark.parametrize("text", ["<Annotations/>", annotation(), annotation(region((1, 2), negative=1))])
    def test_no_region(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(DataError, match=r"x\.xml: the annotation has no region"):
            read_aperio(self.write(tmp_path, text), (10, 10))

    def test_regions_outside_the_image(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="none of 1 regions covers a pixel"):
            read_aperio(self.write(tmp_path, annotation(SQUARE.replace("X='", "X='9"))), (10, 10))

    @pytest.mark.parametrize("vertex", ["<Vertex X='1'/>", "<Vertex X='a' Y='1'/>", "<Vertex X='nan' Y='1'/>"])
    def test_vertices_without_numbers(self, tmp_path: Path, vertex: str) -> None:
        broken = f"<Region Id='7'><Vertices>{vertex}</Vertices></Region>"
        with pytest.raises(DataError, match=r"x\.xml: region 7 has a vertex"):
            read_polygons(self.write(tmp_path, annotation(SQUARE, broken)))

    def test_missing_file_and_size_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(DataError, match="no such file"):
            read_polygons(tmp_path / "x.xml")
        path = self.write(tmp_path, annotation(SQUARE))
        monkeypatch.setattr(aperio, "MAX_BYTES", 10)
        with pytest.raises(DataError, match="bytes"):
            read_polygons(path)

    @pytest.mark.parametrize(
        ("mpp", "expected"),
        [
            ("", None),
            (" MicronsPerPixel='0.252'", 0.252),
            (" MicronsPerPixel=''", None),
            *[(f" MicronsPerPixel='{value}'", None) for value in (0, 250, "inf")],
        ],
    )
    def test_resolution_may_be_missing(self, tmp_path: Path, mpp: str, expected: float | None) -> None:
        assert read_polygons(self.write(tmp_path, annotation(SQUARE, mpp=mpp))).mpp == expected

    def test_pixels_of_a_square(self, tmp_path: Path) -> None:
        flat = region((1, 1), (5, 5))  # two vertices, as one real annotation has
        truth, _ = read_aperio(self.write(tmp_path, annotation(flat, SQUARE)), (10, 12))
        assert truth.labels is not None
        expected = np.zeros((10, 12), np.int32)
        expected[4:9, 3:7] = 1
        np.testing.assert_array_equal(truth.labels, expected)

    def test_neighbours_share_no_pixel_and_the_earlier_wins(self) -> None:
        left = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 9.0], [0.0, 9.0]])
        right, over = left + np.array([4, 0]), left + np.array([2, 0])
        side_by_side = rasterise((left, right), (10, 10))
        assert ((side_by_side == 1).sum(), (side_by_side == 2).sum()) == (36, 36)
        overlapping = rasterise((left, over), (10, 10))
        assert ((overlapping == 1).sum(), (overlapping == 2).sum()) == (36, 18)

    def test_huge_coordinates_are_cut_at_the_border(self) -> None:
        huge = np.array([[-1e12, -1e12], [1e12, -1e12], [1e12, 1e12], [-1e12, 1e12]])
        assert (rasterise((huge,), (7, 9)) == 1).all()

    @pytest.mark.parametrize("seed", range(3))
    def test_outlines_give_the_map_back(self, tmp_path: Path, seed: int) -> None:
        _, truth = generate((120, 140), np.random.default_rng(seed))
        assert truth.labels is not None
        write_aperio(tmp_path / "x.xml", truth.labels, 0.25)
        read, mpp = read_aperio(tmp_path / "x.xml", truth.shape)
        np.testing.assert_array_equal(read.labels, truth.labels)
        assert mpp == 0.25


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
