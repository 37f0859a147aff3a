"""Find the images that a user gives as files, folders or quoted patterns. Does not import torch."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tifffile
from PIL import Image

from datamodules.reading.files import IMAGE_SUFFIXES, check_name
from datamodules.reading.slide_files import SLIDE_SUFFIXES
from postproc.errors import ConfigError, DataError, NucbenchError

ENDINGS = IMAGE_SUFFIXES + SLIDE_SUFFIXES
"""Suffixes of images and slides."""


@dataclass(frozen=True)
class FoundImages:
    """Result of the search.

    Attributes:
        images: Unique files in the given order; those of a folder or pattern are sorted by name.
        errors: An error for each path without images.
        results: Files that are results of an earlier call, which are not processed.
    """

    images: tuple[Path, ...]
    errors: tuple[NucbenchError, ...]
    results: tuple[Path, ...]


def find_images(
    given: Sequence[Path],
    is_result: Callable[[Path], bool] = lambda path: False,
    reserved: Sequence[str] = (),
) -> FoundImages:
    """Resolve files, folders (all images directly in them) and patterns such as ``slides/*.tif``.

    Args:
        given: Paths and patterns of the user.
        is_result: Tells whether a file is a result of an earlier call.
        reserved: Names without extension that images must not have.

    Raises:
        ConfigError: If none of the paths exists, or if two images have the same name without extension, and would
            therefore write the same results.
        DataError: If there are no images.
    """
    images: dict[Path, None] = {}
    errors: list[NucbenchError] = []
    results: list[Path] = []
    for place in given:
        try:
            paths = _files(place)
        except NucbenchError as error:
            errors.append(error)
            continue
        for path in paths:
            try:
                check_name(path)
            except DataError as error:
                errors.append(error)
                continue
            if is_result(path):
                results.append(path)
            else:
                images[path] = None
    if not images and errors:
        kind = ConfigError if all(isinstance(error, ConfigError) for error in errors) else DataError
        raise kind("\n".join(map(str, errors)))
    if not images:
        raise DataError(f"no images found: {results[0]} is a result of `nucbench predict` or `look`")
    stems = {stem: Path(f"{stem}.csv") for stem in reserved}
    for path in images:
        other = stems.setdefault(path.stem, path)
        if other != path and not (other.exists() and other.samefile(path)):
            raise ConfigError(f"{other} and {path} would write the same results; rename one")
    own = {stem: path for stem, path in stems.items() if path in images}
    return FoundImages(tuple(own.values()), tuple(errors), tuple(results))


def _files(place: Path) -> list[Path]:
    """Return the files of one argument of the command line.

    Raises:
        ConfigError: If it does not exist.
        DataError: If it is a folder without images.
    """
    kinds = ", ".join(ENDINGS)
    if place.is_file():
        return [place]
    if place.is_dir():
        found = _images(place.iterdir())
        if not found:
            raise DataError(f"no images in the folder {place}; images end in {kinds}")
        return found
    if glob.has_magic(str(place)):
        found = _images(map(Path, glob.glob(str(place), recursive=True)))
        if not found:
            raise ConfigError(f"no image matches {str(place)!r}; images end in {kinds}")
        return found
    check_name(place)
    raise ConfigError(f"image {place} not found")


def _images(paths: Iterable[Path]) -> list[Path]:
    """Return the image files among paths, sorted by name, without hidden files."""
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in (*IMAGE_SUFFIXES, *SLIDE_SUFFIXES)
        and not path.name.startswith(".")
        and path.is_file()
    )


def count_pixels(path: Path) -> int:
    """Return height x width from the header of an image file; 0 if it cannot be read."""
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                return int(page.imagelength) * int(page.imagewidth)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
                return image.width * image.height
    except Exception:  # decoders raise many types on damaged files; reading the image later reports the fault
        return 0


__all__ = ["FoundImages", "count_pixels", "find_images"]
