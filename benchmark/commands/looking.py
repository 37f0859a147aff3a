"""Command that draws one image with its nuclei."""

from __future__ import annotations

from pathlib import Path

from benchmark.commands.common import DEFAULT


def look(
    image: Path,
    nuclei: Path = Path(DEFAULT),
    *,
    out: Path | None = None,
    window: list[int] | None = None,
    zoom: int = 1,
    types: list[str] | None = None,
    magnification: float | None = None,
    mpp: float | None = None,
    show: bool = False,
) -> None:
    """Draw an image with its nuclei: outlines coloured by type, a legend with their numbers, and a scale bar.

    The nuclei are those of a label map (.mat, .npy, .npz, .png, .tif), of outlines (.geojson, .json), of the file of
    the same name in a folder, or those that a model finds (a run directory, the folder of an exported model, or the
    name of one of `nucbench models`). Nuclei of points are drawn as dots.

    Args:
        image: Image file.
        nuclei: Label map, outlines, folder of such files, or model.
        out: Output PNG; default: NAME_look.png in the working directory. An existing file is only replaced if it is
            such a picture.
        window: Left, top, width and height of the part to draw, in pixels. Default: the whole image.
        zoom: Enlarge the picture this many times before outlines are drawn, 1 to 16.
        types: Names of the types 1, 2, ... of a label map. Outlines and models have their own.
        magnification: Objective magnification of the image, for models and the scale bar. Default: what the file
            states.
        mpp: Microns per pixel, instead of --magnification.
        show: Also open the picture in the system's viewer.
    """
    from benchmark.commands.look import draw_look
    from benchmark.forward.scaling import given_magnification

    path = draw_look(
        image,
        nuclei,
        out or Path(f"{image.stem}_look.png"),
        window=window,
        zoom=zoom,
        types=types or [],
        magnification=given_magnification(magnification, mpp),
    )
    if show:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
