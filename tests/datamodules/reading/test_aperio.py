"""Aperio's annotations: layers, outlines, odd and malicious files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.reading import aperio
from datamodules.reading.aperio import rasterise, read_aperio, read_polygons, write_aperio
from datamodules.synthetic.images import generate
from postproc.errors import DataError, InputWarning


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

    @pytest.mark.parametrize(
        "names", [("tissue", "nuclei"), ("", "Nucleus"), ("non-nuclei", "nuclei"), ("Not nuclei", "Nuclei")]
    )
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

    @pytest.mark.parametrize("names", [("tissue", "cells"), ("", ""), ("non-nuclei", "x")])
    def test_a_nucleus_below_another_region_is_named(self, tmp_path: Path, names: tuple[str, str]) -> None:
        shapes = zip(names, (region((0, 0), (30, 0), (30, 30), (0, 30)), SQUARE), strict=True)
        layers = "".join(f"<Annotation Name='{name}'>{shape}</Annotation>" for name, shape in shapes)
        path = self.write(tmp_path, f"<Annotations>{layers}</Annotations>")
        with pytest.warns(InputWarning, match="1 of 2 regions left out: they lie below earlier ones"):
            assert read_aperio(path, (40, 40))[0].count == 1

    def test_an_outline_around_nuclei_is_left_out(self, tmp_path: Path) -> None:
        nuclei = [region(*((x + dx, 3 + dy) for dx, dy in ((0, 0), (4, 0), (4, 5), (0, 5)))) for x in (2, 10, 18, 26)]
        path = self.write(tmp_path, annotation(region((0, 0), (38, 0), (38, 20), (0, 20)), *nuclei))
        with pytest.warns(InputWarning, match="1 regions around 3 or more others"):
            found, _ = read_aperio(path, (40, 40))
        assert found.count == 4

    @pytest.mark.parametrize("text", ["", "no xml", annotation(SQUARE)[:-20], "<a></b>", "\0"])
    def test_no_xml(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(DataError, match=r"x\.xml: not valid XML"):
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
