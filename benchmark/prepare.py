"""`nucbench prepare`: check a dataset, or write a synthetic stand-in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmark.progress import track
from benchmark.registry import dataset_class
from datamodules.base import SYNTHETIC_MARKER
from postproc.errors import ConfigError


def prepare_dataset(
    name: str, root: Path, *, synthetic: bool, images: int | None, size: int, seed: int, progress: bool = True
) -> None:
    """Write the synthetic stand-in if asked to, then read every image and print what is there against the card.

    Raises:
        ConfigError: If synthetic images would be mixed with existing files.
        DataError: If the dataset is missing, or an image or annotation cannot be read.
    """
    kind = dataset_class(name)
    folder = root / name
    if synthetic:
        write_stand_in(name, folder, images=images, size=size, seed=seed)
    data = kind(folder)
    card = data.card
    found: Counter[str] = Counter()
    nuclei = 0
    for record in track(data.records, f"reading {name}", progress):
        nuclei += data.read(record).truth.count
        found[record.split] += 1
    print(f"{card.title} in {folder}: {sum(found.values())} images, {nuclei} nuclei")
    for split, expected in (card.images or found).items():  # a set of the user's own has no release
        note = "" if found[split] == expected else f"  (the release has {expected})"
        print(f"  {split}: {found[split]} images{note}")
    if not synthetic and card.nuclei is not None and nuclei != card.nuclei:
        print(
            f"  The card states {card.nuclei} nuclei; versions in circulation differ, and each run stores what it saw."
        )
    for note in card.notes:
        print(f"  {note}")


def write_stand_in(name: str, folder: Path, *, images: int | None, size: int, seed: int) -> None:
    """Write synthetic images in a dataset's layout, with a marker so that their scores are never taken for real ones.

    Raises:
        ConfigError: If `folder` holds files already.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} is not empty; synthetic images are never mixed with other files. Give another --data, or remove "
            "the folder."
        )
    dataset_class(name).write_synthetic(folder, images=images, size=size, seed=seed)
    (folder / SYNTHETIC_MARKER).write_text("Synthetic images written by nucbench; not the real dataset.\n")
