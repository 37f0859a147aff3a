"""PanNuke: 7,901 H&E images of 19 tissues with nuclei outlined and typed (Gamper et al., 2019 and 2020)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.layout import build_sample, choose_rows, require_found, walk
from datamodules.reading.pannuke_names import TISSUES, TYPES
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.splits import SplitRow
from datamodules.reading.stacks import open_stack, read_plane, whole_numbers, write_stack
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

_FOLD = re.compile(r"fold[ _-]?([123])", re.IGNORECASE)
_LEVELS = 5
# the archives have Fold 1/images/fold1/images.npy
_CHANNELS = len(TYPES) + 1
# the last one is the background


class PanNuke(NucleiDataModule):
    """7,901 images of 256 x 256 px at 40x in three folds, which are the splits ``fold1``, ``fold2`` and ``fold3``.

    Each fold is a stack of images, of tissues and of masks with one channel per type. An id counts within its channel
    only, so equal ids in two channels are two nuclei. Where channels overlap, the later channel wins, as in the
    authors' binary PQ. Stacks are mapped, so that only the images that are read take memory.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="pannuke",
        title="PanNuke",
        summary="7,901 H&E images of 19 tissues with nuclei outlined and typed, in three folds",
        images={"fold1": 2656, "fold2": 2523, "fold3": 2722},
        nuclei=189_744,
        types=TYPES,
        magnification=40.0,
        mpp=0.25,
        radius=12.0,
        citation=(
            "J. Gamper, N. Alemi Koohbanani, K. Benes, S. Graham, M. Jahanifar, S. A. Khurram, A. Azam, K. Hewitt, "
            "N. Rajpoot. PanNuke dataset extension, insights and baselines. arXiv:2003.10778, 2020"
        ),
        url="https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke",
        licence="CC BY-NC-SA 4.0",
        layout=(
            "Fold N/images/foldN/images.npy     (images, 256, 256, 3)          N = 1, 2, 3\n"
            "Fold N/images/foldN/types.npy      (images,), names of tissues\n"
            "Fold N/masks/foldN/masks.npy       (images, 256, 256, 6), one channel of ids per type, then background"
        ),
        notes=(
            "Train on one fold and evaluate on another, for example: --train-split fold1 --protocol strict --validate "
            "pannuke.fold2 --evaluate pannuke.fold3.",
            "The patients are not published, so the group is the image.",
            "Nuclei at the border of an image are cut and may have a few pixels only.",
        ),
        downloads=tuple(
            Download(
                file=f"fold_{fold}.zip",
                url=f"https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke/fold_{fold}.zip",
                source="public readers of the dataset download it from there; no source states size or checksum",
            )
            for fold in (1, 2, 3)
        ),
        steps=(
            "Download fold_1.zip, fold_2.zip and fold_3.zip from https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke "
            "in a browser.",
            "Put them into {downloads}",
            "Run: nucbench prepare pannuke",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images of the folds under `root`, see `NucleiDataModule.index`."""
        folds: dict[str, dict[str, Path]] = {}
        for folder in walk(root, _LEVELS):
            for name in ("images", "types", "masks"):
                path = folder / f"{name}.npy"
                if path.is_file():
                    files = folds.setdefault(_fold(path, root), {})
                    if name in files:
                        raise DataError(f"{path} and {files[name]} are the same fold of PanNuke; keep one")
                    files[name] = path
        records: list[Record] = []
        splits = cls.splits()
        for fold, files in sorted(folds.items()):
            records += _records(fold, files, splits)
        return require_found(records, cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its nuclei, types and tissue, see `NucleiDataModule.read`."""
        assert record.index is not None
        masks, tissues = record.annotations
        plane = read_plane(masks, record.index, (None, None, _CHANNELS))
        truth = merge_channels(whole_numbers(masks, record.index, plane)[..., : len(TYPES)])
        return build_sample(record, truth, cls.card, tissue=_tissue(tissues, record.index))

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in with tissues in turn, see `NucleiDataModule.write_synthetic`."""
        folds: dict[str, list[tuple[NDArray[np.uint8], Instances]]] = {}
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            made = generate((size, size), np.random.default_rng((seed, number)))
            folds.setdefault(row.split, []).append(made)
        for fold, made_images in folds.items():
            base = Path(root) / fold.replace("fold", "Fold ")
            write_stack(base / "images" / fold / "images.npy", np.stack([i for i, _ in made_images]).astype(np.float64))
            names = [TISSUES[k % len(TISSUES)] for k in range(len(made_images))]
            write_stack(base / "images" / fold / "types.npy", np.array(names))
            write_stack(base / "masks" / fold / "masks.npy", np.stack([split_channels(t) for _, t in made_images]))


def merge_channels(channels: NDArray[np.int64]) -> Instances:
    """Return the nuclei of masks with one channel per type.

    Args:
        channels: (H, W, T), ids of the nuclei of each type, 0 = none.

    Returns:
        Nuclei 1..N in the order of channels and ids. A pixel of several channels belongs to the last one; a nucleus
        that is covered completely is left out.
    """
    height, width, count = channels.shape
    merged: NDArray[np.int64] = np.zeros((height, width), np.int64)
    kinds: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    total = 0
    for channel in range(count):
        ids, inverse = np.unique(channels[..., channel], return_inverse=True)
        numbers = np.cumsum(ids > 0)
        nuclei = np.where(ids > 0, total + numbers, 0)[inverse].reshape(height, width)
        merged = np.where(nuclei > 0, nuclei, merged)
        found = int((ids > 0).sum())
        kinds.append(np.full(found, channel + 1, np.int64))
        total += found
    present = np.unique(merged)
    labels, _, _ = relabel(merged.astype(np.int32))
    return Instances((height, width), labels=labels, types=np.concatenate(kinds)[present[present > 0]])


def split_channels(truth: Instances) -> NDArray[np.float64]:
    """Return nuclei as the channels of masks.npy, (H, W, 6): a background of 1 outside nuclei comes last."""
    assert truth.labels is not None
    assert truth.types is not None
    planes = np.zeros((*truth.shape, _CHANNELS))
    kinds = np.concatenate([[0], np.minimum(truth.types, len(TYPES))])[truth.labels]
    for kind in range(1, len(TYPES) + 1):
        planes[..., kind - 1] = np.where(kinds == kind, truth.labels, 0)
    planes[..., -1] = truth.labels == 0
    return planes


def _fold(path: Path, root: Path) -> str:
    """Return the fold of a file, named by the nearest folder."""
    for folder in (path.parent, *path.parent.parents):
        match = _FOLD.fullmatch(folder.name)
        if match:
            return f"fold{match[1]}"
        if folder == Path(root):
            break
    raise DataError(f"{path}: no folder above it names the fold; expected Fold 1, Fold 2 or Fold 3")


def _records(fold: str, files: dict[str, Path], splits: dict[str, SplitRow]) -> list[Record]:
    for name in ("images", "masks", "types"):
        if name not in files:
            raise DataError(f"{next(iter(files.values()))}: {fold} has no {name}.npy; expected\n{PanNuke.card.layout}")
    counts = {
        "images": len(open_stack(files["images"], (None, None, 3))),
        "masks": len(open_stack(files["masks"], (None, None, _CHANNELS))),
        "types": len(open_stack(files["types"], (), "US")),
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}.npy {count}" for name, count in counts.items())
        raise DataError(f"{files['masks']}: the files of {fold} hold different numbers of images: {listed}")
    if counts["images"] > PanNuke.card.images[fold]:
        raise DataError(f"{files['images']}: {counts['images']} images; {fold} has {PanNuke.card.images[fold]}")
    rows = [splits[f"{fold}_{number:04d}"] for number in range(counts["images"])]
    annotations = (files["masks"], files["types"])
    return [
        Record(row.image_id, files["images"], annotations, row.group, row.split, row.validation, number)
        for number, row in enumerate(rows)
    ]


def _tissue(path: Path, index: int) -> str:
    names: NDArray[Any] = open_stack(path, (), "US")
    value = names[index] if index < len(names) else ""
    tissue = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if tissue not in TISSUES:
        raise DataError(f"{path}: image {index} has the tissue {tissue!r}; expected one of {', '.join(TISSUES)}")
    return tissue


__all__ = ["TISSUES", "TYPES", "PanNuke", "merge_channels", "split_channels"]
