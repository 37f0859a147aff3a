"""The synthetic datasets: nothing to download, every outline exact."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import check_size, read_instances, read_rgb, write_mat, write_rgb
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.splits import SplitRow, read_column
from datamodules.synthetic.images import generate, generate_dist
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap

Make = Callable[[SplitRow, np.random.Generator], tuple[NDArray[np.uint8], Instances]]
"""Generates an image, uint8 (H, W, 3), with its nuclei, for a line of the splits."""

OUTLINES = "OUTLINES.txt"
"""File in a dataset's folder that names the dataset whose outlines the images are simulated from; without this file,
the outlines are generated too."""
GENERATED = "generated"
"""Name in records for outlines that belong to no dataset."""

_LAYOUT = "{train,test}/Images/<image>.png\n{train,test}/Labels/<image>.mat   inst_map (H, W){types}"


class _FolderSet(NucleiDataModule):
    """A dataset of PNG images and .mat label maps, with the images of the committed splits."""

    @classmethod
    @abstractmethod
    def make(cls, shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.uint8], Instances]:
        """Generate one image, uint8 (H, W, 3), with its nuclei."""

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images in `root`, in the order of the committed splits.

        Raises:
            DataError: If an image has no annotation.
        """
        records = []
        for row in cls.splits().values():
            image, labels = _paths(root, row.split, row.image_id)
            if not image.is_file():
                continue
            if not labels.is_file():
                raise DataError(f"{image} has no annotation: expected {labels}; write the dataset again")
            records.append(Record(row.image_id, image, (labels,), row.group, row.split, row.validation))
        return records

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its nuclei."""
        image, truth = read_rgb(record.image), read_instances(record.annotations[0])
        check_size(image, truth, record.annotations[0])
        card = cls.card
        return Sample(image, truth, record.image_id, record.group, card.magnification, card.mpp)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write the dataset; image k depends only on (seed, k).

        Args:
            root: Output folder, created if missing.
            images: Number of images, distributed over training, validation and test; None = all of them.
            size: Side of the images, in pixels.
            seed: Seed of the generator.

        Raises:
            ConfigError: If `images` is not between 1 and the number of images in the committed splits.
        """
        cls._write(root, images, lambda row, rng: cls.make((size, size), rng), seed)

    @classmethod
    def _write(cls, root: Path, images: int | None, make: Make, seed: int) -> None:
        """Write the images of `make`; see `write_synthetic`."""
        rows = list(cls.splits().values())
        count = len(rows) if images is None else images
        if not 1 <= count <= len(rows):
            raise ConfigError(f"{cls.card.name}: images is {count}; choose 1 to {len(rows)}")
        parts = [[r for r in rows if (r.split, r.validation) == part] for part in _PARTS]
        # alternate between parts, so that every split gets images even if there are few
        order = [row for turn in zip_longest(*parts) for row in turn if row is not None]
        for row in order[:count]:
            image, truth = make(row, np.random.default_rng((seed, rows.index(row))))
            paths = _paths(Path(root), row.split, row.image_id)
            write_rgb(paths[0], image)
            write_mat(paths[1], truth)


_PARTS = (("train", False), ("test", False), ("train", True))


def _paths(root: Path, split: str, image_id: str) -> tuple[Path, Path]:
    return root / split / "Images" / f"{image_id}.png", root / split / "Labels" / f"{image_id}.mat"


class Synthetic(_FolderSet):
    """12 images that look like H&E at 40x, with 4 nucleus types in CoNSeP's order."""

    card: ClassVar[DatasetCard] = DatasetCard(
        name="synthetic",
        title="Synthetic",
        summary="H&E-like images with exact outlines and 4 nucleus types, generated locally.",
        images={"train": 8, "test": 4},
        nuclei=None,
        generated=True,
        citation="Generated by datamodules/synthetic/images.py of this suite",
        url="the command `nucbench prepare synthetic --synthetic`",
        licence="Apache-2.0",
        layout=_LAYOUT.replace("{types}", ", inst_type (N, 1)"),
        types=("miscellaneous", "inflammatory", "epithelial", "spindle-shaped"),
        mpp=0.25,
        notes=(
            "The number of nuclei depends on the chosen image size.",
            "For experiments only: scores on it say nothing about tissue.",
        ),
    )

    @classmethod
    def make(cls, shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.uint8], Instances]:
        """Make one H&E-like image."""
        return generate(shape, rng)


class SyntheticDIST(_FolderSet):
    """50 images of algorithm 1 of Naylor et al. (2018), used to choose DIST's regression target.

    The paper simulates each from the annotation of an image of its DS1, here TNBC. The committed splits name that image
    (column ``tnbc``) and keep all images of a patient on one side.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="synthetic-dist",
        title="Synthetic (DIST)",
        summary="Noisy blobs of one colour each, used to compare DIST's regression targets.",
        images={"train": 40, "test": 10},
        nuclei=None,
        generated=True,
        outlines="tnbc",
        citation="Naylor et al., Segmentation of Nuclei in Histopathology Images by Deep Regression of the "
        "Distance Map, IEEE TMI 2018, section V-A",
        url="the command `nucbench prepare synthetic-dist --synthetic`",
        licence="Apache-2.0; if simulated from TNBC, the licence of its annotation: CC BY 4.0",
        layout=_LAYOUT.replace("{types}", "") + f"\n{OUTLINES}   source of the outlines",
        notes=(
            "The paper simulates from the annotation of DS1, which is TNBC. If TNBC is missing, the outlines are "
            f"generated; {OUTLINES} and the record of each run state the source.",
            "Touching nuclei are one object, as in the paper (connected components).",
            "The paper does not state the amount of dilation; here it is 1 px.",
        ),
    )

    @classmethod
    def make(cls, shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.uint8], Instances]:
        """Generate one image from the outlines of an H&E-like one."""
        labels = generate(shape, rng)[1].labels
        assert labels is not None  # the generator always draws outlines
        return generate_dist(labels, rng)

    @classmethod
    def write_simulated(
        cls, root: Path, source: NucleiDataModule, *, images: int | None = None, size: int | None = None, seed: int = 0
    ) -> None:
        """Write the dataset, each image simulated from the annotation of its TNBC image in the splits.

        Args:
            root: Output folder, created if missing.
            source: TNBC.
            images: Number of images, distributed over training, validation and test; None = all of them.
            size: Side, in pixels, of the random crop of each annotation; None = the whole annotation.
            seed: Seed of the generator.

        Raises:
            ConfigError: If `images` or `size` is larger than available.
            DataError: If `source` lacks an image.
        """
        origin = read_column(cls.card.name, "tnbc")
        records = {record.image_id: record for record in source.records}

        def simulate(row: SplitRow, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Instances]:
            name = origin[row.image_id]
            if name not in records:
                raise DataError(f"{source.root} lacks the image {name}, the source of {row.image_id}")
            labels = source.read(records[name]).truth.labels
            assert labels is not None  # TNBC has outlines
            return generate_dist(labels if size is None else _part(labels, size, rng, name), rng)

        cls._write(root, images, simulate, seed)
        (Path(root) / OUTLINES).write_text(f"{source.card.name}\n", encoding="utf-8")

    @property
    def outlines(self) -> str:
        """Dataset whose outlines the images are simulated from, or ``generated``.

        Raises:
            DataError: If the file names neither.
        """
        file = self.root / OUTLINES
        found = file.read_text(encoding="utf-8").strip() if file.is_file() else GENERATED
        if found not in (self.card.outlines, GENERATED):
            raise DataError(f"{file} has {found!r}, not {self.card.outlines} or {GENERATED}; prepare it again")
        return found

    def fingerprint(self, split: str, *, annotated: bool = True) -> dict[str, Any]:
        """Return `NucleiDataModule.fingerprint`, and the source of the outlines (``outlines``)."""
        return super().fingerprint(split, annotated=annotated) | {"outlines": self.outlines}


def _part(labels: LabelMap, size: int, rng: np.random.Generator, name: str) -> LabelMap:
    """Cut a square out of a label map at a random position."""
    height, width = labels.shape
    if size > min(height, width):
        raise ConfigError(f"size is {size} px, but the annotation of {name} has {height} x {width}; reduce it")
    top, left = (int(rng.integers(extent - size + 1)) for extent in (height, width))
    return labels[top : top + size, left : left + size]
