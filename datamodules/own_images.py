"""`OwnImages`: base of datasets of one's own images, described by a small dataset.yaml."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.ki67 import case_of
from datamodules.reading.card import DatasetCard
from datamodules.reading.description import DESCRIPTION, PARTS, SPLITS, Description, Placement, read_placements
from datamodules.reading.files import IMAGE_SUFFIXES, check_name, replacing
from datamodules.reading.layout import count_images, walk
from datamodules.reading.records import Record, group_conflicts
from postproc.errors import DataError


@dataclass
class Found:
    """Images of a folder with their annotation.

    Attributes:
        images: Image and its annotations.
        problems: Images and annotations that cannot be used, one message each.
    """

    images: list[tuple[Path, tuple[Path, ...]]] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class _Placed:
    """An image with its annotations and its split."""

    image: Path
    files: tuple[Path, ...]
    place: Placement


class OwnImages(NucleiDataModule):
    """Images of one's own, whose types, scale and splits are stated in their folder.

    ``dataset.yaml`` states the types and, optionally, magnification and microns per pixel; they are on the `card` of
    the opened dataset. The split of an image is its folder, ``train``, ``val`` (training image kept for validation) or
    ``test``; or, if all images are in one folder, a line of ``splits.csv`` (image, split and, optionally, patient).
    The case (patient) of an image is that of ``splits.csv``, or of ``cases: {image: case}`` in dataset.yaml, otherwise
    its name without a final ``_<number>`` (``CASE_1``, ``CASE_2``).

    Args:
        root: The dataset's folder, or its parent.
        settings: Further settings of `NucleiDataModule`.

    Attributes:
        example: ``dataset.yaml`` of a synthetic stand-in.
        invented: Number of images of a stand-in, unless given.

    Raises:
        DataError: If dataset.yaml cannot be used.
    """

    example: ClassVar[str]
    invented: ClassVar[int]

    def __init__(self, root: Path | str, **settings: Any) -> None:
        super().__init__(root, **settings)
        file = find_description(self.root) if self.root.is_dir() else None
        if file is not None:
            # other datasets state this on the card of their class, this one in its folder
            self.card = self.described(self.describe(file))  # type: ignore[misc]

    @classmethod
    @abstractmethod
    def describe(cls, path: Path) -> Description:
        """Read dataset.yaml.

        Raises:
            DataError: If it cannot be used.
        """

    @classmethod
    @abstractmethod
    def find(cls, folder: Path) -> Found:
        """List the images of a folder with their annotation, without reading them."""

    @classmethod
    @abstractmethod
    def write_one(
        cls, folder: Path, stem: str, names: Sequence[str], number: int, rng: np.random.Generator, size: int
    ) -> None:
        """Write an image of a synthetic stand-in with its annotation.

        Args:
            folder: Folder of its split.
            stem: Name of the image.
            names: Names of the types.
            number: Number of the image, from 0; stand-ins vary with it.
            rng: Random generator of the image.
            size: Side of the image in pixels.
        """

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in of invented cases, alternately for training, validation and test.

        See `NucleiDataModule.write_synthetic`.
        """
        count, description = count_images(images, cls.invented), Path(root) / DESCRIPTION
        with replacing(description) as temporary:
            temporary.write_text(cls.example, encoding="utf-8")
        names = cls.describe(description).types
        for number in range(count):
            folder, stem = Path(root) / tuple(PARTS)[number % len(PARTS)], f"synthetic{number:03d}_1"
            cls.write_one(folder, stem, names, number, np.random.default_rng((seed, number)), size)

    @classmethod
    def described(cls, about: Description) -> DatasetCard:
        """Return the card with the contents of dataset.yaml."""
        return dataclasses.replace(cls.card, types=about.types, magnification=about.magnification, mpp=about.mpp)

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        records, problems = cls.survey(root)
        if problems:
            more = f" ({len(problems) - 1} more problems: nucbench prepare {cls.card.name})" if problems[1:] else ""
            raise DataError(problems[0] + more)
        return records

    @classmethod
    def survey(cls, root: Path) -> tuple[list[Record], list[str]]:
        """List the images under `root` that can be read, and what is wrong with others."""
        file = find_description(root)
        if file is None:
            raise DataError(f"{root}: no {DESCRIPTION} found; lay out the images as:\n{cls.card.layout}")
        about = cls.describe(file)
        splits = file.with_name(SPLITS)
        if splits.is_file():
            placed, problems = cls._by_table(splits)
        else:
            placed, problems = cls._by_folder(file.parent)
        if not placed and not problems:
            raise DataError(f"{file.parent}: no image found; lay them out as:\n{cls.card.layout}")
        records: dict[str, Record] = {}
        for each in placed:
            image, stem = each.image, each.image.stem
            try:
                check_name(image)
            except DataError as error:
                problems.append(str(error))
                continue
            if stem in records:
                problems.append(f"image {stem!r} is both {records[stem].image} and {image}; keep one")
                continue
            split, validation = PARTS[each.place.part]
            group = each.place.patient or about.cases.get(stem) or case_of(stem)
            records[stem] = Record(stem, image, (*each.files, file), group, split, validation)
        if not problems:  # otherwise the image may be one of those
            problems += [
                f"{file}: cases lists {image!r}, but there is no such image; remove it"
                for image in sorted(set(about.cases) - set(records))
            ]
        if about.cases and any(each.place.patient for each in placed):
            problems.append(f"{file}: cases, but {splits} has a column for patients; keep one of them")
        found = list(records.values())
        return found, problems + group_conflicts(found, cls.card.name)

    @classmethod
    def _by_folder(cls, root: Path) -> tuple[list[_Placed], list[str]]:
        """List the images in the folders train, val and test."""
        problems = [
            f"{folder}: rename it to {_ALIKE[folder.name.lower()]}; the folders are {_PARTS}"
            for folder in sorted(path for path in root.iterdir() if path.is_dir())
            if folder.name not in PARTS and folder.name.lower() in _ALIKE
        ]
        loose = sorted(path for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        if loose or (root / "images").is_dir():
            what = str(loose[0]) if loose else str(root / "images")
            problems.append(f"{what}: in no split; move images into the folders {_PARTS}, or list them in {SPLITS}")
        placed = []
        for part in PARTS:
            if (root / part).is_dir():
                found = cls.find(root / part)
                problems += found.problems
                placed += [_Placed(image, files, Placement(0, part, "")) for image, files in found.images]
        return placed, problems

    @classmethod
    def _by_table(cls, splits: Path) -> tuple[list[_Placed], list[str]]:
        """List the images next to splits.csv, or in the folder images next to it."""
        root = splits.parent
        lines, found = read_placements(splits), cls.find(root)
        problems = [
            f"{root / part}: a folder of a split, but {SPLITS} defines the splits; remove one of them"
            for part in PARTS
            if (root / part).is_dir()
        ]
        problems += found.problems
        known: Mapping[str, Placement] = {_stem(name): each for name, each in lines.items()}
        twice = [name for name, count in Counter(map(_stem, lines)).items() if count > 1]
        problems += [f"{splits}: two lines name the image {name!r}; keep one" for name in twice]
        placed = []
        for image, files in found.images:
            if image.stem in known:
                placed.append(_Placed(image, files, known[image.stem]))
            else:
                problems.append(f"{image}: not in {splits}; add a line {image.name},train (or val, test)")
        there = {image.stem for image in _images_below(root)}
        problems += [
            f"{splits}, line {each.line}: there is no image {name!r} in {root}; correct or remove the line"
            for name, each in known.items()
            if name not in there
        ]
        return placed, problems


_PARTS = ", ".join(PARTS)
_ALIKE = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"} | {
    part: part for part in PARTS
}
"""Names of folders, lower case, that are not read -> the name that is."""


def find_description(root: Path) -> Path | None:
    """Return dataset.yaml in `root` or in a subfolder."""
    return next((folder / DESCRIPTION for folder in walk(root) if (folder / DESCRIPTION).is_file()), None)


def _stem(name: str) -> str:
    """Return the name of an image without its suffix, if it has one."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _images_below(root: Path) -> Iterator[Path]:
    for folder in (root, root / "images"):
        if folder.is_dir():
            yield from (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


__all__ = ["Found", "OwnImages", "find_description"]
