"""The command that cuts whole-slide images into tiles."""

from __future__ import annotations

from pathlib import Path

from postproc.errors import ConfigError


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
    """Cut whole-slide images into tiles at several magnifications, for `nucbench run self-supervised tiles`.

    Tiles do not overlap; tiles with too little tissue are skipped. Each tile is a PNG in a folder per magnification and
    slide in --out, and manifest.csv lists all tiles. Run the same command to resume after an interruption or to add
    slides. If a slide cannot be read, the others are still processed and the exit status is 1.

    Args:
        slides: Whole-slide images (SVS, NDPI, SCN, OME-TIFF, pyramidal TIFF; MRXS and others with OpenSlide).
        out: Output folder; the dataset tiles is read from the folder tiles in the data folder.
        magnifications: Magnifications of the tiles, at most that of the slide; default: 10 20 40.
        size: Side of the tiles in pixels.
        tissue: Smallest fraction of tissue pixels (saturated and not black) in a tile.
        per_slide: Largest number of tiles per slide and magnification, at random positions; default: all.
        target: Image whose colours are transferred to every tile (Reinhard); default: keep the colours of the slides.
        magnification: Objective magnification of all slides, if the files state none or a wrong one.
        mpp: Microns per pixel of all slides, instead of --magnification.
        seed: Seed of the random positions.
        workers: Worker processes, each on one slide at a time.
        progress: Hide progress bars.
    """
    from benchmark.forward.scaling import given_magnification
    from benchmark.host.outputs import check_outputs
    from benchmark.slides.cut import TileSettings, make_tiles

    magnification = given_magnification(magnification, mpp)
    colours = None
    if target is not None:
        if not target.is_file():
            raise ConfigError(f"--target {target} not found; give an image")
        check_outputs(out.glob("*/*/*.png"), [target])
        from benchmark.slides.colours import target_colours  # imports torch

        colours = target_colours(target)
    levels = tuple(float(level) for level in magnifications or (10, 20, 40))
    settings = TileSettings(levels, size, tissue, per_slide, seed, colours)
    return make_tiles(slides, out, settings, magnification=magnification, workers=workers, progress=progress)
