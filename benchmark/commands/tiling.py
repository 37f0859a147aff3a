"""The command that cuts whole slides into tiles."""

from __future__ import annotations

from pathlib import Path


def tiles(
    slides: list[Path],
    *,
    out: Path = Path("data/tiles"),
    magnifications: list[float] | None = None,
    size: int = 224,
    tissue: float = 0.7,
    per_slide: int | None = None,
    target: Path | None = None,
    magnification: float | None = None,
    mpp: float | None = None,
    seed: int = 0,
    workers: int = 0,
    progress: bool = True,
) -> int:
    """Cut whole slides into tiles of several magnifications, the training set of `nucbench run self-supervised tiles`.

    Tiles lie side by side; those with too little tissue are left out. Each is a PNG in a folder per magnification and
    slide below --out, and manifest.csv lists them. Given again, also after a kill, the command goes on where it was;
    further slides are added. A slide that cannot be read does not stop the others; the exit status is then 1.

    Args:
        slides: Whole slides (SVS, NDPI, SCN, pyramidal TIFF: what tiffslide reads).
        out: Folder to write; nucbench looks for it in the folder of datasets, as tiles.
        magnifications: Magnifications of the tiles; default: 10 20 40. A slide gives those up to its own.
        size: Side of the tiles, px.
        tissue: Least share of px that are tissue (saturated and not black).
        per_slide: Most tiles of each slide and magnification, at random places; default: all.
        target: Image whose colours every tile is brought to (Reinhard); default: the slides' own colours.
        magnification: Objective magnification of all slides, where they state none or a wrong one.
        mpp: Microns per px of all slides, instead of --magnification.
        seed: Seed of the random places.
        workers: Processes, each with a slide of its own.
        progress: Hide progress bars.
    """
    from benchmark.host.outputs import check_outputs
    from benchmark.slides.cut import TileSettings, make_tiles
    from postproc.errors import ConfigError

    for name, value in (("magnification", magnification), ("mpp", mpp)):
        if value is not None and value <= 0:
            raise ConfigError(f"--{name} must be positive, not {value}")
    if magnification is not None and mpp is not None:
        raise ConfigError("give either --magnification or --mpp, not both")
    colours = None
    if target is not None:
        check_outputs(out.glob("*/*/*.png"), [target])
        from benchmark.slides.colours import target_colours  # imports torch

        colours = target_colours(target)
    levels = tuple(float(level) for level in magnifications or (10, 20, 40))
    settings = TileSettings(levels, size, tissue, per_slide, seed, colours)
    return make_tiles(slides, out, settings, magnification=magnification, mpp=mpp, workers=workers, progress=progress)
