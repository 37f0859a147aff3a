"""Aperio ImageScope annotations (XML polygons), the format of MoNuSeg, MoNuSAC and Kumar's first release."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError  # types only; defusedxml parses
from xml.sax.saxutils import quoteattr

import defusedxml.ElementTree as ElementTree
import numpy as np
from defusedxml.common import DefusedXmlException
from numpy.typing import NDArray
from skimage.draw import polygon as fill_polygon
from skimage.measure import find_contours, points_in_poly

from datamodules.reading.files import replacing
from postproc.errors import DataError, InputWarning, short
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap, relabel

MAX_BYTES = 200_000_000
"""Largest XML file that is parsed, in bytes; the largest of MoNuSeg has about 20 MB."""

PLAUSIBLE_MPP = (0.05, 10.0)
"""Accepted microns per pixel: 200x to 1x. Some files state nanometres or a placeholder."""

AROUND = 3
"""Number of nuclei inside a region above which it outlines something else."""
LARGER = 10.0
"""Factor by which such a region exceeds the median region and those inside."""

_NUCLEI = re.compile(r"^(?!.*\b(non|not|no|without|exclud\w*)\b).*nucle", re.IGNORECASE)
# "Nuclei" and "epithelial nucleus", but neither "non-nuclei" nor "not nuclei"

_TIE = 1e-4
# in pixels; outlines often run exactly through pixel centres, and this decides which centres are inside


@dataclass(frozen=True)
class Polygons:
    """Regions of one annotation file.

    Attributes:
        regions: One float64 (V, 2) array per region, (x, y) px; V may be too small to enclose an area.
        mpp: Microns per pixel; None if the file does not state it.
        note: Readable note on what was left out; empty if nothing was.
        kinds: Name of the layer's attribute for each region (``Epithelial`` in MoNuSAC); empty text = none.
    """

    regions: tuple[NDArray[np.float64], ...]
    mpp: float | None
    note: str = ""
    kinds: tuple[str, ...] = ()


def read_polygons(path: Path, ignored: Collection[str] = ()) -> Polygons:
    """Read the nuclei of an annotation file, in drawing order.

    Regions marked as negative (``NegativeROA="1"``) are left out. So are layers of other structures if a layer is named
    after nuclei, and outlines around many others, such as that of the tissue.

    Args:
        path: The ``.xml`` file.
        ignored: Attributes, in lower case, of layers whose regions are no nuclei.

    Returns:
        The regions, with a note of what was left out.

    Raises:
        DataError: If the file is missing, is not XML, tries to expand entities, or has no region.
    """
    root = _parse(Path(path))
    layers, notes = _nuclei_layers(root)
    attributes = _attributes(root)
    elements = [r for layer in layers for r in layer.iter("Region") if r.get("NegativeROA", "0") != "1"]
    named = [(region, attributes.get(region, "")) for region in elements]
    nuclei = [(region, kind) for region, kind in named if kind.casefold() not in ignored]
    regions = [_vertices(region, path) for region, _ in nuclei]
    if not elements:
        raise DataError(f"{path}: the annotation has no region; copy or download it again")
    around = _around_others(regions)
    if around.any():
        notes.append(f"{int(around.sum())} regions around {AROUND} or more others are not nuclei and are left out")
    inner = np.flatnonzero(~around).tolist()
    kinds = tuple(nuclei[k][1] for k in inner)
    return Polygons(tuple(regions[k] for k in inner), _mpp(root), "; ".join(notes), kinds)


def rasterise(regions: tuple[NDArray[np.float64], ...], shape: tuple[int, int]) -> LabelMap:
    """Draw polygons into a label map.

    A pixel belongs to a polygon if its centre does, where pixel (row r, column c) has its centre at (x, y)
    = (c, r). A centre exactly on the outline is inside on the right and lower side and outside on the left
    and upper side, so that neighbours share no pixel. If polygons overlap, the earlier one keeps the
    pixels. Of all rules tried, these match the circulating label maps of Kumar most closely
    (PQ 0.994 to 0.995 on the three images with both kinds of annotation). Parts outside the image,
    and regions with fewer than three vertices or without a pixel, are dropped.

    Args:
        regions: Vertices of each polygon, (V, 2), (x, y) in pixels.
        shape: (H, W) of the image in pixels.

    Returns:
        int32 (H, W), numbered 1..N in the order of `regions`.
    """
    return relabel(_drawn(regions, shape))[0]


def _drawn(regions: tuple[NDArray[np.float64], ...], shape: tuple[int, int]) -> LabelMap:
    """Draw polygons as in `rasterise`; ids are positions in `regions`, from 1, with gaps."""
    labels = np.zeros(shape, np.int32)
    for number, vertices in enumerate(regions, start=1):
        rows, columns = _pixels(vertices, shape)
        free = labels[rows, columns] == 0
        labels[rows[free], columns[free]] = number
    return labels


def read_aperio(path: Path, shape: tuple[int, int]) -> tuple[Instances, float | None]:
    """Read an annotation file as a label map.

    Args:
        path: The ``.xml`` file.
        shape: (H, W) of the image in pixels.

    Returns:
        The nuclei and the microns per pixel, None if the file does not state them.

    Raises:
        DataError: See `read_polygons`; also if no region covers a pixel of the image.
    """
    polygons = read_polygons(path)
    return _labelled(path, shape, polygons, None), polygons.mpp


def read_typed_aperio(
    path: Path, shape: tuple[int, int], types: Sequence[str], ignored: Collection[str] = ()
) -> tuple[Instances, float | None]:
    """Read an annotation file whose layers are types, as `read_aperio`.

    Args:
        path: The ``.xml`` file.
        shape: (H, W) of the image in pixels.
        types: Names of the types 1..T: those of the layers' attributes, ignoring case.
        ignored: Attributes, in lower case, of layers whose regions are no nuclei.

    Returns:
        The nuclei with types, none if all regions are ignored, and the microns per pixel as in `read_aperio`.

    Raises:
        DataError: See `read_aperio`; also if a layer has another attribute.
    """
    polygons = read_polygons(path, ignored)
    numbers = {name.casefold(): number for number, name in enumerate(types, start=1)}
    for kind in polygons.kinds:
        if kind.casefold() not in numbers:
            raise DataError(f"{path}: a layer has the attribute {short(kind)}; expected {', '.join(types)}")
    kinds = np.array([numbers[kind.casefold()] for kind in polygons.kinds], np.int64)
    return _labelled(path, shape, polygons, kinds), polygons.mpp


def _labelled(path: Path, shape: tuple[int, int], polygons: Polygons, kinds: NDArray[np.int64] | None) -> Instances:
    """Draw the regions of a file, with the type of each if known, and tell what was left out."""
    if polygons.note:
        warnings.warn(f"{path}: {polygons.note}", InputWarning, stacklevel=3)
    regions = polygons.regions
    labels, types, ids = relabel(_drawn(regions, shape), kinds)
    if regions and not len(ids):
        raise DataError(f"{path}: none of {len(regions)} regions covers a pixel of an image of {shape} px (H, W)")
    hidden = _hidden(regions, shape, len(ids))
    if hidden:
        warnings.warn(
            f"{path}: {hidden} of {len(regions)} regions left out: they lie below earlier ones. If those outline no "
            "nuclei, put them into a layer of their own, and name the other layer nuclei",
            InputWarning,
            stacklevel=3,
        )
    return Instances(shape, labels=labels, types=types)


def write_aperio(
    path: Path, labels: LabelMap, mpp: float | None = None, layers: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Write the outer contours of a label map as an annotation file, atomically.

    `rasterise` restores the map, except for holes and for all but the largest part of a nucleus.

    Args:
        path: The ``.xml`` file.
        labels: int32 (H, W), ids 1..N.
        mpp: Microns per pixel, omitted if None.
        layers: Ids of the nuclei by attribute, each of which becomes a layer; None = one layer without an attribute.
    """
    scale = "" if mpp is None else f" MicronsPerPixel={quoteattr(str(mpp))}"
    lines = [f"<Annotations{scale}>"]
    every = range(1, int(labels.max(initial=0)) + 1)
    for place, (name, members) in enumerate((layers or {"": every}).items(), start=1):
        lines.append(f'<Annotation Id="{place}" Type="4">')
        if name:
            lines.append(f'<Attributes><Attribute Name={quoteattr(name)} Id="0" Value=""/></Attributes>')
        lines.append("<Regions>")
        for number in members:
            lines.append(f'<Region Id="{number}" Type="0" NegativeROA="0">')
            lines.append("<Vertices>")
            lines += [f'<Vertex X="{x:.6f}" Y="{y:.6f}"/>' for x, y in contour(labels == number)]
            lines += ["</Vertices>", "</Region>"]
        lines += ["</Regions>", "</Annotation>"]
    lines.append("</Annotations>")
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _hidden(regions: tuple[NDArray[np.float64], ...], shape: tuple[int, int], drawn: int) -> int:
    """Count the regions that cover pixels of the image but lost all of them to earlier ones."""
    if drawn == len(regions):
        return 0
    return sum(_pixels(region, shape)[0].size > 0 for region in regions) - drawn


def _pixels(vertices: NDArray[np.float64], shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the pixels of a polygon that are in the image; see `rasterise` for the rule."""
    if len(vertices) < 3:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows, columns = fill_polygon(vertices[:, 1] + _TIE, vertices[:, 0] + _TIE, shape)
    return rows, columns


def contour(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the longest contour of a mask, halfway between pixels: float64 (V, 2), (x, y), pixel centres are whole."""
    rows, columns = np.nonzero(mask)
    top, left = rows.min(), columns.min()
    part = np.pad(mask[top : rows.max() + 1, left : columns.max() + 1], 1).astype(np.float64)
    contours = find_contours(part, 0.5, fully_connected="high")
    longest: NDArray[np.float64] = max(contours, key=len)[:-1, ::-1] + (left - 1, top - 1)
    return longest


def _parse(path: Path) -> Element:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: {path.stat().st_size} bytes; annotations of up to {MAX_BYTES} are read")
    try:
        root = ElementTree.parse(path).getroot()
    except DefusedXmlException as error:
        raise DataError(f"{path}: refused, the XML declares entities or external files ({error})") from error
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not valid XML ({error}); copy or download it again") from error
    if root is None:
        raise DataError(f"{path}: the XML has no content; copy or download it again")
    return root


def _attributes(root: Element) -> dict[Element, str]:
    """Return the name of the first attribute of the layer of each region."""
    found = {}
    for layer in root.iter("Annotation"):
        attribute = layer.find("./Attributes/Attribute")
        name = "" if attribute is None else attribute.get("Name", "").strip()
        found.update(dict.fromkeys(layer.iter("Region"), name))
    return found


def _nuclei_layers(root: Element) -> tuple[list[Element], list[str]]:
    """Return the layers of nuclei (the whole file if none is named after nuclei), and a note of what is left out."""
    layers = [layer for layer in root.iter("Annotation") if layer.find(".//Region") is not None]
    named = [layer for layer in layers if _NUCLEI.search(layer.get("Name", ""))]
    if not named or len(named) == len(layers):
        return [root], []
    others = ", ".join(layer.get("Name") or f"Id {layer.get('Id')}" for layer in layers if layer not in named)
    return named, [f"only layers named after nuclei are read; left out: {short(others, quoted=False)}"]


def _around_others(regions: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Return, bool (N,), which regions enclose at least `AROUND` others and are far larger than these."""
    areas = np.array([_area(region) for region in regions])
    around = np.zeros(len(regions), bool)
    if not regions:
        return around
    suspects = np.flatnonzero(areas > LARGER * np.median(areas))
    if not suspects.size:
        return around
    centres = np.array([region.mean(axis=0) if len(region) else (np.nan, np.nan) for region in regions])
    for k in suspects.tolist():
        inside = points_in_poly(centres, regions[k]) & (areas * LARGER < areas[k])
        around[k] = np.count_nonzero(inside) >= AROUND
    return around


def _area(vertices: NDArray[np.float64]) -> float:
    """Return the area of a polygon in pixels (shoelace formula)."""
    if len(vertices) < 3:
        return 0.0
    x, y = (vertices - vertices[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _vertices(region: Element, path: Path) -> NDArray[np.float64]:
    try:
        points = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iter("Vertex")]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: region {region.get('Id')} has a vertex without numbers X and Y") from error
    vertices = np.array(points, np.float64).reshape(-1, 2)
    if not np.isfinite(vertices).all():
        raise DataError(f"{path}: region {region.get('Id')} has a vertex that is not finite")
    return vertices


def _mpp(root: Element) -> float | None:
    try:
        value = float(root.get("MicronsPerPixel", "nan"))
    except ValueError:
        return None
    return value if PLAUSIBLE_MPP[0] <= value <= PLAUSIBLE_MPP[1] else None
