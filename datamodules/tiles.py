"""Tiles of whole slides, written by `nucbench tiles`: images of several magnifications without annotation."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.drawing.crops import Drawer
from datamodules.drawing.items import Items
from datamodules.drawing.loading import Loading
from datamodules.drawing.magnification import LEVELS, Tile
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import read_rgb, write_rgb
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.splits import SplitRow
from datamodules.reading.tile_manifest import MANIFEST, Row, read_manifest, tile_file, write_manifest
from datamodules.sources import Sources
from datamodules.synthetic.images import generate
from postproc.codec import Targets
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

BATCHES = 100
"""Batches per epoch (Sahasrabudhe et al. 2020, section 4.2)."""

_TCGA = re.compile(r"TCGA-\w{2}-\w{4}")
_LAYOUT = f"""\
{MANIFEST}     slide, level, x, y, magnification, tissue, file
10x/<slide>/<x>_<y>.png     20x/<slide>/<x>_<y>.png     40x/<slide>/<x>_<y>.png
(nucbench tiles SLIDES... --out FOLDER)"""


class Tiles(NucleiDataModule):
    """Tiles of custom whole slides, each at one magnification, for methods that learn without labels.

    No splits are committed: the manifest lists the tiles, all are for training, and the group is the patient for slides
    of TCGA and the slide otherwise. Tiles are read from disk when they are drawn, since even a few slides exceed the
    memory. An epoch has `BATCHES` batches, in each of which all magnifications are equally frequent.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="tiles",
        title="Tiles of whole slides",
        summary="tiles of your own whole slides at several magnifications, without annotation",
        images={},
        nuclei=None,
        magnification=40.0,
        annotation="none",
        citation=(
            "M. Sahasrabudhe, S. Christodoulidis, R. Salgado, S. Michiels, S. Loi, F. Andre, et al. Self-supervised "
            "nuclei segmentation in histopathological images using attention. MICCAI 2020, section 4.1"
        ),
        url="the command `nucbench tiles`",
        licence="that of the slides",
        layout=_LAYOUT,
        notes=(
            "The paper has 1,125,737 tiles of the slides of MoNuSeg's training patients (portal.gdc.cancer.gov).",
            "There is no annotation for validation: protocol strict needs --validate, for example monuseg.validation, "
            "whose patients must not be among the tiles.",
            "Images are rescaled to 40x for inference; each tile has its own magnification.",
        ),
    )

    @classmethod
    def splits(cls) -> dict[str, SplitRow]:
        """Return no splits: tiles are not known in advance."""
        return {}

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the tiles of the manifest, see `NucleiDataModule.index`."""
        root = Path(root)
        if not (root / MANIFEST).is_file():
            raise DataError(f"{root}: no {MANIFEST} found. Create it with {cls.card.url}; expected:\n{_LAYOUT}")
        return [
            Record(row.file.removesuffix(".png"), root / row.file, (), patient(row.slide), "train")
            for row in read_manifest(root)
        ]

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one tile, see `NucleiDataModule.read`; its nuclei are unknown."""
        image = read_rgb(record.image)
        truth = Instances((image.shape[0], image.shape[1]))
        magnification = magnification_of(record)
        return Tile(image, truth, record.image_id, record.group, magnification, 10 / magnification)

    def read_image(self, record: Record) -> Sample:
        """Read one tile, see `NucleiDataModule.read_image`."""
        return self.read(record)

    def fingerprint(self, split: str, *, annotated: bool = True) -> dict[str, Any]:
        """Return the number of tiles and a hash of the manifest; a million files are too many to hash."""
        manifest = (self.root / MANIFEST).read_bytes()
        return {
            "dataset": self.card.name,
            "split": split,
            "images": len(self.select(split)),
            "nuclei": None,
            "sha256": hashlib.sha256(manifest).hexdigest(),
            "synthetic": self.is_stand_in,
        }

    def training_items(self, sources: Sources, loading: Loading) -> Items:
        """Return items that are read when drawn, see `NucleiDataModule.training_items`.

        Raises:
            ConfigError: If tiles are combined with other training sets, or a magnification is missing.
        """
        if len(sources.train) > 1:
            raise ConfigError("tiles cannot be combined with further training sets (also)")
        chosen = sources.first.records()
        by_level = [[r for r in chosen if magnification_of(r) == level] for level in LEVELS]
        for level, records in zip(LEVELS, by_level, strict=True):
            if not records:
                wanted = " ".join(f"{each:g}" for each in LEVELS)
                raise ConfigError(
                    f"{self.root}: none of the {len(chosen)} tiles is at {level:g}x; make tiles at each magnification: "
                    f"nucbench tiles SLIDES... --magnifications {wanted}"
                )
        length = BATCHES * loading.batch_size * loading.world
        return TileItems(self, by_level, loading.train, length, loading.seed, loading.world)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write tiles of synthetic tissue, see `NucleiDataModule.write_synthetic`.

        Args:
            root: Output folder, created if missing.
            images: Number of tiles, alternating between magnifications; None = two of each.
            size: Side of the tiles, in pixels.
            seed: Seed of the generator.
        """
        rows = []
        for number in range(2 * len(LEVELS) if images is None else images):
            level = LEVELS[number % len(LEVELS)]
            image, _ = generate((size, size), np.random.default_rng((seed, number)), scale=level / 40)
            slide, x = f"synthetic_{number // len(LEVELS) + 1}", round(size * 40 / level)
            row = Row(slide, 0, x, 0, level, 1.0, tile_file(slide, level, x, 0))
            write_rgb(Path(root) / row.file, image)
            rows.append(row)
        write_manifest(Path(root), rows)


class TileItems(Items):
    """Training items from tiles on disk; item k depends only on (seed, k).

    Each process alternates between magnifications, so that any 3 consecutive items have all of them.

    Args:
        data: Reader of the tiles.
        by_level: The tiles of each magnification.
        draw: Drawer of an item from a tile.
        length: Items in an epoch, over all processes.
        seed: Seed of the run.
        world: Number of training processes; each takes every `world`-th item.
    """

    def __init__(
        self, data: Tiles, by_level: list[list[Record]], draw: Drawer, length: int, seed: int, world: int
    ) -> None:
        self._data = data
        self._by_level = by_level
        self._draw = draw
        self._length = length
        self._seed = seed
        self._world = world

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: int) -> Targets:
        epoch, item = divmod(key, self._length)
        rng = np.random.default_rng((self._seed, epoch, item))
        turn = epoch * self._length // self._world + item // self._world + item % self._world
        records = self._by_level[turn % len(self._by_level)]
        return self._draw(self._data.read(records[int(rng.integers(len(records)))]), rng)


def magnification_of(record: Record) -> float:
    """Return the magnification of a tile, given by its folder."""
    return float(record.image_id.partition("x/")[0])


def patient(slide: str) -> str:
    """Return the patient of a TCGA slide; for other slides, the slide itself."""
    found = _TCGA.match(slide)
    return found[0] if found else slide


__all__ = ["Tiles", "patient"]
