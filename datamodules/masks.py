"""Custom sets of masks: images with label maps or outlines of nuclei, described by a small dataset.yaml."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import tifffile
from numpy.typing import NDArray

from datamodules.own_images import Found, OwnImages
from datamodules.reading.card import DatasetCard
from datamodules.reading.description import Description
from datamodules.reading.files import (
    IMAGE_SUFFIXES,
    read_rgb,
    replacing,
    write_label_png,
    write_mat,
    write_npy,
    write_rgb,
)
from datamodules.reading.label_files import (
    LABEL_SUFFIXES,
    MAP_SUFFIXES,
    MasksDescription,
    read_labels,
    read_masks_description,
)
from datamodules.reading.layout import build_sample, images_in
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.cells import shown
from postproc.instances import Instances

LABELS, TYPES = "_labels", "_types"
"""Endings of the names of label maps and of files with types, before the suffix."""
IMAGES_FOLDER, LABELS_FOLDER = "images", "labels"

_RADIUS_AT_1X = 12 / 40
# the papers use 12 px at 40x and 6 px at 20x

_EXAMPLE = """\
# Description of these images for nucbench; see "A set of masks of your own" in docs/how-to/own-images.md.
types: [miscellaneous, inflammatory, epithelial, spindle-shaped]  # in the order of their numbers; [] for none
magnification: 40    # objective; omit if unknown
mpp: 0.25            # microns per pixel; omit if unknown
"""


class Masks(OwnImages):
    """Any number of images, each with the outlines (and types) of all its nuclei.

    ``dataset.yaml`` states the types and, optionally, magnification, microns per pixel, cases, the radius of F_d
    and whether masks are labelled (`MasksDescription`); `OwnImages` describes it and the splits.

    The folder of a split (that of ``splits.csv``) has one of two layouts. ``images/X.png`` with ``labels/X.tif``; or
    ``X.png`` with ``X_labels.tif`` or, where no image could be meant, ``X.mat``, ``X.npy`` or ``X.geojson`` beside it.
    Label maps have one id per nucleus (.png of 8 or 16 bits, .tif, .npy), optionally with ``X_types.csv`` (id, class)
    or a map of types beside them; .mat files have the arrays of HoVer-Net's label files, and .geojson and .json are
    read by `datamodules.reading.outlines`.
    """

    example = _EXAMPLE
    invented = 12
    card: ClassVar[DatasetCard] = DatasetCard(
        name="masks",
        title="Masks of your own",
        summary="Your own images with label maps or outlines of all nuclei, with or without types.",
        images={},
        nuclei=None,
        magnification=None,
        radius=12.0,
        annotation="instances",
        citation="none: your own images",
        url="docs/how-to/own-images.md#a-set-of-masks-of-your-own",
        licence="your own",
        layout=(
            "dataset.yaml                       types: [a, b] (or []); magnification: 40; mpp: 0.25\n"
            "{train,val,test}/images/X.png      (or .tif, .jpg, .bmp)\n"
            "{train,val,test}/labels/X.png      one id per nucleus (or .tif, .npy, .mat), or X.geojson\n"
            "{train,val,test}/labels/X_types.csv   id,class (or a map of types, X_types.png); not for .mat, .geojson\n"
            "or, without folders of labels:\n"
            "{train,val,test}/X.png             with X_labels.png (.tif), X.npy, X.mat or X.geojson, and X_types.csv\n"
            "or, without folders of splits, images and labels next to splits.csv (image,split,patient)"
        ),
        notes=("Types, magnification and microns per pixel are read from dataset.yaml.",),
    )

    @classmethod
    def describe(cls, path: Path) -> MasksDescription:
        """Read dataset.yaml, see `OwnImages.describe`."""
        return read_masks_description(path)

    @classmethod
    def described(cls, about: Description) -> DatasetCard:
        """Return the card with the contents of dataset.yaml."""
        assert isinstance(about, MasksDescription)
        card = super().described(about)
        usual = cls.card.radius if about.magnification is None else _RADIUS_AT_1X * about.magnification
        return dataclasses.replace(card, radius=about.radius or usual)

    @classmethod
    def find(cls, folder: Path) -> Found:
        """List images with their labels, see `OwnImages.find`."""
        apart = (folder / IMAGES_FOLDER).is_dir()
        images, labels = (folder / IMAGES_FOLDER, folder / LABELS_FOLDER) if apart else (folder, folder)
        if apart and not labels.is_dir():
            return Found(problems=[f"{images}: no folder {labels} next to it; put the label maps there"])
        found = Found()
        there = sorted(path for path in labels.iterdir() if path.is_file() and not path.name.startswith("."))
        pictures = [path for path in images_in(images) if apart or not path.stem.endswith((LABELS, TYPES))]
        if apart:
            found.problems += [
                f"{path}: outside {IMAGES_FOLDER}; move it there, or remove the folder {IMAGES_FOLDER}"
                for path in images_in(folder)
            ]
        stems = {path.stem for path in pictures}
        maps = _by_stem([p for p in there if p.suffix.lower() in LABEL_SUFFIXES], LABELS, apart=apart)
        kinds = _by_stem([p for p in there if p.suffix.lower() in (".csv", *MAP_SUFFIXES)], TYPES, apart=False)
        for image in pictures:
            problem = _problem(image, labels, maps.get(image.stem, []), kinds.get(image.stem, []), apart=apart)
            if problem:
                found.problems.append(problem)
            else:
                found.images.append((image, (*maps[image.stem], *kinds.get(image.stem, []))))
        for files, what in ((maps, "label map"), (kinds, "file with types")):
            found.problems += [
                f"{path}: a {what} without image; add {images / stem}.png, or remove the {what}"
                for stem, paths in files.items()
                for path in paths
                if stem not in stems
            ]
        return found

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its nuclei and types, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        labels, *kinds, description = record.annotations
        about = cls.describe(description)
        truth = read_labels(labels, kinds[0] if kinds else None, (image.shape[0], image.shape[1]), about)
        return build_sample(record, truth, cls.described(about), image=image)

    @classmethod
    def write_one(
        cls, folder: Path, stem: str, names: Sequence[str], number: int, rng: np.random.Generator, size: int
    ) -> None:
        """Write an image of a stand-in, see `OwnImages.write_one`.

        Label maps are stored in turn as .png with a CSV of types, .mat, .tif with a map of types, and .npy with a CSV.
        """
        image, truth = generate((size, size), rng)
        write_rgb(folder / IMAGES_FOLDER / f"{stem}.png", image)
        _write_labels(folder / LABELS_FOLDER / stem, truth, names, number % 4)


def write_types(path: Path, types: NDArray[np.int64], names: Sequence[str]) -> None:
    """Write a CSV with the types of the nuclei 1..N: columns id and class."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "class"])
        writer.writerows([i, shown(names[kind - 1]) if kind else ""] for i, kind in enumerate(types.tolist(), start=1))


def _write_labels(path: Path, truth: Instances, names: Sequence[str], way: int) -> None:
    """Write nuclei and types to files that begin with `path`, in one of four ways."""
    assert truth.labels is not None
    assert truth.types is not None
    if way == 1:
        write_mat(path.with_suffix(".mat"), truth)
        return
    if way == 2:
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path.with_suffix(".tif"), truth.labels.astype(np.uint16), compression="deflate")
        drawn = np.concatenate([[0], truth.types])[truth.labels]
        write_rgb(path.with_name(f"{path.name}{TYPES}.png"), drawn.astype(np.uint8))
        return
    if way == 0:
        write_label_png(path.with_suffix(".png"), truth.labels)
    else:
        write_npy(path.with_suffix(".npy"), truth.labels)
    write_types(path.with_name(f"{path.name}{TYPES}.csv"), truth.types, names)


def _by_stem(files: Sequence[Path], ending: str, *, apart: bool) -> dict[str, list[Path]]:
    """Return the files of each image: those named ``X<ending>`` and, for labels, ``X`` where no image is meant."""
    found: dict[str, list[Path]] = {}
    for path in files:
        if path.stem.endswith(ending):
            found.setdefault(path.stem.removesuffix(ending), []).append(path)
        elif (
            ending == LABELS and not path.stem.endswith(TYPES) and (apart or path.suffix.lower() not in IMAGE_SUFFIXES)
        ):
            found.setdefault(path.stem, []).append(path)
    return found


def _problem(image: Path, folder: Path, maps: list[Path], kinds: list[Path], *, apart: bool) -> str:
    """Say why the files of an image cannot be used; empty if they can."""
    for files, what in ((maps, "label maps"), (kinds, "files with types")):
        if len(files) > 1:
            return f"{image}: two {what}, {files[0].name} and {files[1].name}; keep one"
    if maps:
        inside = maps[0].suffix.lower() not in MAP_SUFFIXES
        return f"{kinds[0]}: {maps[0].name} states the types itself; remove one of them" if inside and kinds else ""
    expected = f"{folder / image.stem}{'' if apart else LABELS}.png"
    alike = [p for p in sorted(folder.glob("*")) if p.stem.startswith(f"{image.stem}_") and p != image]
    alike = [p for p in alike if p.suffix.lower() in LABEL_SUFFIXES and not p.stem.endswith(TYPES)]
    hint = f"; if {alike[0].name} is its label map, rename it {image.stem}{LABELS}{alike[0].suffix}" if alike else ""
    return f"{image}: no label map; expected {expected} (or .tif, .npy, .mat, .geojson){hint}"


__all__ = ["Masks", "write_types"]
