"""CoNIC: 4,981 patches of colon tissue cut out of Lizard for the challenge of 2022 (Graham et al., 2021)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.base import NucleiDataModule
from datamodules.lizard import CITATION
from datamodules.reading.card import DatasetCard
from datamodules.reading.description import find_columns, rows_of, text_lines
from datamodules.reading.files import replacing
from datamodules.reading.layout import build_sample, count_images, require_found, walk
from datamodules.reading.lizard_names import TYPES
from datamodules.reading.matlab import majority_types
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.stacks import open_stack, read_plane, whole_numbers, write_stack
from datamodules.reading.stratified import stratified_test
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

TRAIN, VALID = "train", "valid"
"""The splits of the challenge's baseline; the test set of the challenge is not public."""
POOL = "pool"
"""The split of all patches if there are too few regions to divide them."""
COUNT_BORDER = 16
"""Border of a patch, in pixels, that is left out where nuclei are counted."""
_SHARE, _SEED = 0.2, 5
# of the baseline's notebook; it uses the first of the splits drawn
_PATCH = re.compile(r"(\w+)-\d+")
# patch consep_1-0003 is the fourth one of region consep_1
_NAMES = {"name": ("patch_info", "name", "patch")}


class CoNIC(NucleiDataModule):
    """4,981 patches of 256 x 256 px at 20x; the group is the region of Lizard.

    The splits ``train`` and ``valid`` are those of the challenge's HoVer-Net baseline: a fifth of the regions of each
    source, drawn as in notebooks/baseline.ipynb of github.com/TissueImageAnalytics/CoNIC. They have 3,963 and 1,018
    patches in the complete release. The patches of regions from PanNuke and CoNSeP show images of those datasets, at
    another magnification.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="conic",
        title="CoNIC",
        summary="4,981 H&E patches of colon tissue at 20x with nuclei outlined and typed, cut out of Lizard",
        images={TRAIN: 3963, VALID: 1018},
        nuclei=None,
        types=TYPES,
        magnification=20.0,
        mpp=0.5,
        radius=6.0,
        count_border=COUNT_BORDER,
        citation=(
            "S. Graham, M. Jahanifar, Q. D. Vu, G. Hadjigeorghiou, T. Leech, D. Snead, S. E. A. Raza, F. Minhas, "
            f"N. Rajpoot. CoNIC: colon nuclei identification and counting challenge 2022. arXiv:2111.14485; {CITATION}"
        ),
        url="https://conic-challenge.grand-challenge.org/",
        licence="CC BY-NC-SA 4.0, for research",
        layout=(
            "images.npy         (patches, 256, 256, 3)\n"
            "labels.npy         (patches, 256, 256, 2), ids and types\n"
            "patch_info.csv     patch_info: REGION-NUMBER of each patch"
        ),
        notes=(
            "Regions are read from patch_info.csv. The split is computed from their names as in the notebook of the "
            "challenge's baseline, whose printed numbers of patches are 3,963 and 1,018.",
            "The test set of the challenge is not public, so its results cannot be compared with runs on these splits.",
            "counts.csv counts the nuclei in the central 224 x 224 px only; it is not read, and the R2 of the table "
            "conic counts the nuclei of the label maps in the same way.",
        ),
        steps=(
            "Sign in at https://conic-challenge.grand-challenge.org/ and download images.npy, labels.npy and "
            "patch_info.csv from its page Data.",
            "Put them into {folder}",
            "Run: nucbench prepare conic",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the patches under `root` in their order, see `NucleiDataModule.index`."""
        found = [folder for folder in walk(root) if (folder / "images.npy").is_file()]
        if len(found) > 1:
            raise DataError(f"{found[0]} and {found[1]} both hold images.npy; keep one")
        return require_found(_records(found[0]) if found else [], cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one patch with its nuclei and types, see `NucleiDataModule.read`."""
        assert record.index is not None
        path = record.annotations[0]
        plane = whole_numbers(path, record.index, read_plane(path, record.index, (None, None, 2)))
        labels, _, _ = relabel(plane[..., 0])
        types = majority_types(labels, plane[..., 1], path)
        return build_sample(record, Instances(labels.shape, labels=labels, types=types), cls.card)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in of regions with two patches each; six patches by default."""
        images = count_images(images, 6)
        made = [
            generate((size, size), np.random.default_rng((seed, number)), density=2.4e-3, scale=0.5)
            for number in range(images)
        ]
        root = Path(root)
        write_stack(root / "images.npy", np.stack([image for image, _ in made]))
        write_stack(root / "labels.npy", np.stack([label_planes(truth) for _, truth in made]))
        names = [f"synthetic_{number // 2 + 1}-{number % 2:04d}" for number in range(images)]
        with replacing(root / "patch_info.csv") as temporary:
            temporary.write_text("\n".join(["patch_info", *names, ""]), encoding="utf-8")


def label_planes(truth: Instances) -> NDArray[np.uint16]:
    """Return nuclei as a plane of labels.npy, (H, W, 2): ids and types."""
    assert truth.labels is not None
    assert truth.types is not None
    return np.stack([truth.labels, np.concatenate([[0], truth.types])[truth.labels]], axis=-1).astype(np.uint16)


def _records(folder: Path) -> list[Record]:
    images, labels, info = (folder / name for name in ("images.npy", "labels.npy", "patch_info.csv"))
    for path in (labels, info):
        if not path.is_file():
            raise DataError(f"{images}: no annotation; expected {path}")
    counts = len(open_stack(images, (None, None, 3))), len(open_stack(labels, (None, None, 2)))
    lines = text_lines(info)
    columns = find_columns(info, lines[0] if lines else "", _NAMES)
    records: dict[str, Record] = {}
    for number, row in rows_of(info, lines, columns):
        match = _PATCH.fullmatch(row["name"])
        if match is None or row["name"] in records:
            problem = "is listed twice" if match else "is not REGION-NUMBER, for example consep_1-0000"
            raise DataError(f"{info}, line {number}: patch {row['name']!r} {problem}")
        place = len(records)
        records[row["name"]] = Record(row["name"], images, (labels, info), match[1], POOL, index=place)
    if len({*counts, len(records)}) > 1:
        raise DataError(
            f"{labels}: different numbers of patches: images.npy {counts[0]}, labels.npy {counts[1]}, "
            f"patch_info.csv {len(records)}"
        )
    return _divided(list(records.values()))


def _divided(records: list[Record]) -> list[Record]:
    """Return the patches with the split of the baseline."""
    regions = sorted({record.group for record in records})
    found = stratified_test([region.partition("_")[0] for region in regions], _SHARE, _SEED)
    if found is None:
        return records
    valid = {regions[place] for place in found}
    return [replace(record, split=VALID if record.group in valid else TRAIN) for record in records]


__all__ = ["COUNT_BORDER", "POOL", "TRAIN", "VALID", "CoNIC", "label_planes"]
