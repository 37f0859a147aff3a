"""`nucbench tiles`: cut slides into tiles of several magnifications (Sahasrabudhe et al. 2020, section 4.1)."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.host.files import held, read_json, write_json
from benchmark.host.processes import start_worker
from benchmark.host.progress import track
from benchmark.slides.journal import Journal, Place
from datamodules.reading.slides import Image, Slide, tissue_share
from datamodules.reading.tile_manifest import Row, tile_file, write_manifest
from postproc.errors import ConfigError, DataError

SETTINGS = "tiles.json"
"""File with the common settings of the tiles of a folder."""
JOURNALS = "journals"
"""Folder of the journals, one per slide."""


@dataclass(frozen=True)
class TileSettings:
    """Common settings of the tiles of a folder.

    Attributes:
        magnifications: Magnifications of the tiles.
        size: Side of the tiles in pixels.
        tissue: Minimum share of tissue pixels.
        per_slide: Maximum number of tiles per slide and magnification, at random positions; None = all, row by row.
        seed: Seed of the positions.
        colours: Mean and standard deviation of L*, a* and b* to which tiles are normalised (Reinhard et al. 2001); None
            keeps the colours of the slide.
    """

    magnifications: tuple[float, ...]
    size: int = 224
    tissue: float = 0.7
    per_slide: int | None = None
    seed: int = 0
    colours: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            ConfigError: If a value is invalid.
        """
        for what, fine, wanted in (
            ("magnifications", self.magnifications and all(m > 0 for m in self.magnifications), "positive numbers"),
            ("size", 16 <= self.size <= 4096, "16 to 4096 px"),
            ("tissue", 0 <= self.tissue <= 1, "a share, 0.7 for 70 %"),
            ("per-slide", self.per_slide is None or self.per_slide > 0, "1 or more"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not fine:
                raise ConfigError(f"--{what} is {getattr(self, what.replace('-', '_'))}; give {wanted}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return {
            "magnifications": sorted(set(self.magnifications)),
            "size": self.size,
            "tissue": self.tissue,
            "per_slide": self.per_slide,
            "seed": self.seed,
            "colours": None if self.colours is None else [list(row) for row in self.colours],
        }


def make_tiles(
    slides: Sequence[Path],
    out: Path,
    settings: TileSettings,
    *,
    magnification: float | None = None,
    workers: int = 0,
    progress: bool = True,
) -> int:
    """Cut slides into tiles and list them in the manifest of `out`.

    Existing tiles are kept: after a kill, the same call resumes and ends with the same files. A slide that cannot be
    read is reported and does not stop the others.

    Args:
        slides: Slide files with distinct names.
        out: Folder of the tiles.
        settings: Settings of the tiles; those of an existing folder cannot be changed.
        magnification: Objective magnification of all slides, instead of the one stated in the files.
        workers: Number of processes, each cutting one slide at a time; 0 or 1 = only this process.
        progress: Show progress bars.

    Returns:
        0 if all slides could be cut, 1 otherwise.

    Raises:
        ConfigError: If none of the slides exists, the settings differ from those of the folder, two slides have the
            same name, or another process is using the folder.
    """
    twice = [name for name, count in Counter(path.stem for path in slides).items() if count > 1]
    if twice:
        raise ConfigError(f"{len(twice)} names are used by two slides, for example {twice[0]!r}; rename one of them")
    if not any(path.exists() for path in slides):
        raise ConfigError(f"slides not found: {', '.join(map(str, slides[:3]))}{', ...' * (len(slides) > 3)}")
    with held(out, "writing to"):
        _check_settings(out / SETTINGS, settings)
        failed = _cut_all(slides, out, settings, magnification, workers, progress)
    if failed:
        print(f"{len(failed)} of {len(slides)} slides failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _check_settings(path: Path, settings: TileSettings) -> None:
    wanted = settings.to_dict()
    if not path.exists():
        write_json(path, wanted)
        return
    stored = read_json(path)
    differing = [key for key in wanted if stored.get(key) != wanted[key]]
    if differing:
        values = ", ".join(f"{key} = {stored.get(key)}, not {wanted[key]}" for key in differing)
        raise ConfigError(f"the tiles in {path.parent} were made with {values}; give another --out")


def _cut_all(
    slides: Sequence[Path],
    out: Path,
    settings: TileSettings,
    magnification: float | None,
    workers: int,
    progress: bool,
) -> list[str]:
    """Cut all slides; return the names of those that failed."""
    failed = []
    rows = {path.stem: finished_rows(out, path.stem) for path in sorted((out / JOURNALS).glob("*.jsonl"))}
    with _pool(min(workers, len(slides))) as pool:
        alone = pool is None
        jobs = [None if pool is None else pool.submit(cut_slide, path, out, settings, magnification) for path in slides]
        pairs = list(zip(slides, jobs, strict=True))
        for path, job in pairs if alone else track(pairs, "cutting slides", progress):
            try:
                found = cut_slide(path, out, settings, magnification, progress) if job is None else job.result()
            except DataError as error:
                print(f"nucbench: error: {error}", file=sys.stderr, flush=True)
                failed.append(path.name)
            else:
                print(f"{path.stem}: {found}", flush=True)
            rows[path.stem] = finished_rows(out, path.stem)
            write_manifest(out, itertools.chain.from_iterable(rows.values()))
    return failed


def cut_slide(
    path: Path,
    out: Path,
    settings: TileSettings,
    magnification: float | None = None,
    progress: bool = False,
) -> str:
    """Cut one slide, starting where its journal ends.

    Returns:
        Text with the number of tiles per magnification.

    Raises:
        DataError: If the slide cannot be read, or has none of the magnifications.
    """
    if not path.is_file():
        raise DataError(f"{path}: file not found")
    about = {"bytes": path.stat().st_size, "magnification": magnification}
    notes = []
    with Journal(out / JOURNALS / f"{path.stem}.jsonl", about) as journal:
        for place in journal.outdated:
            (out / tile_file(path.stem, place.magnification, place.x, place.y)).unlink(missing_ok=True)
        if not journal.done:
            with Slide(path, magnification=magnification) as slide:
                levels = sorted(set(settings.magnifications))
                reachable = [level for level in levels if slide.has(level)]
                if not reachable:
                    raise DataError(
                        f"{path}: a slide of {slide.magnification:g}x has no tiles at {levels[0]:g}x; omit it"
                    )
                notes = [f"none at {level:g}x" for level in levels if level not in reachable]
                for level in reachable:
                    _cut_level(slide, level, out, settings, journal, progress)
            journal.finish()
        counts = Counter(place.magnification for place in journal.places if place.kept)
        seen = Counter(place.magnification for place in journal.places)
        found = [f"{counts[level]} of {seen[level]} at {level:g}x" for level in sorted(seen)]
        return ", ".join(found + notes) or "too small for a tile"


def _cut_level(
    slide: Slide, magnification: float, out: Path, settings: TileSettings, journal: Journal, progress: bool
) -> None:
    """Examine places of the grid until there are enough tiles or no places left."""
    seen = [place for place in journal.places if place.magnification == magnification]
    kept = sum(place.kept for place in seen)
    columns = slide.grid(magnification, settings.size)[0]
    order = places_in_order(slide, magnification, settings)[len(seen) :]
    recolour = _recolouring(settings)
    for place in track(order.tolist(), f"{slide.name} at {magnification:g}x", progress):
        if kept == settings.per_slide:
            return
        row, column = divmod(place, columns)
        x, y = slide.corner(magnification, settings.size, column, row)
        tile = slide.tile(magnification, settings.size, (x, y))
        share = tissue_share(tile)
        keep = share >= settings.tissue
        if keep:
            _write_png(out / tile_file(slide.name, magnification, x, y), recolour(tile))
            kept += 1
        journal.add(Place(magnification, slide.level(magnification), x, y, round(share, 6), keep))


def places_in_order(slide: Slide, magnification: float, settings: TileSettings) -> NDArray[np.int64]:
    """Return the places of the grid, row by row, or in a fixed random order if `per_slide` limits them."""
    columns, rows = slide.grid(magnification, settings.size)
    if settings.per_slide is None:
        return np.arange(columns * rows)
    key = (settings.seed, zlib.crc32(slide.name.encode()), round(1000 * magnification))
    return np.random.default_rng(key).permutation(columns * rows)


def _recolouring(settings: TileSettings) -> Callable[[Image], Image]:
    """Return the function that normalises the colours of a tile."""
    if settings.colours is None:
        return lambda tile: tile
    from benchmark.slides.colours import normalise  # imports torch

    return functools.partial(normalise, colours=settings.colours)


def finished_rows(out: Path, slide: str) -> list[Row]:
    """Return the tiles of a slide from its journal; empty if the slide is not finished."""
    places, done = Journal.read(out / JOURNALS / f"{slide}.jsonl")
    return [
        Row(slide, p.level, p.x, p.y, p.magnification, p.tissue, tile_file(slide, p.magnification, p.x, p.y))
        for p in places
        if p.kept and done
    ]


def _write_png(path: Path, image: Image) -> None:
    """Write an image atomically; a partial file left by a kill is overwritten later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    partial.replace(path)


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Yield a pool of processes, or None for a single process; spawned, because a fork breaks threads of libraries."""
    if workers < 2:
        yield None
        return
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
    ) as pool:
        yield pool


__all__ = ["TileSettings", "cut_slide", "finished_rows", "make_tiles"]
