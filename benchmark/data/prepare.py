"""`nucbench prepare`: get a dataset and check it, or write a synthetic stand-in."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmark.data.obtain import ByHandError, obtain
from benchmark.data.presence import is_there, presence, required
from benchmark.host.console import wide_console
from benchmark.host.progress import track
from benchmark.registry import DATASETS, dataset_class
from datamodules.base import SYNTHETIC_MARKER, NucleiDataModule
from datamodules.reading.magnification import differs, stated_magnification
from datamodules.synthetic_sets import GENERATED
from postproc.errors import ConfigError, DataError, NucbenchError, unknown_name

SIZE = 256
"""Side of synthetic images in px where none is asked for."""


@dataclass(frozen=True)
class StandIn:
    """Which synthetic images to write.

    Attributes:
        images: Number over all splits; None = the least that fills every split.
        size: Side in px; None = 256, or that of the annotation they are simulated from.
        seed: Seed of the generator.
        source: Whose outlines a dataset gets that is simulated from another's annotation: ``generated``, or the name of
            that dataset; None = that dataset where all of it is there.
    """

    images: int | None = None
    size: int | None = None
    seed: int = 0
    source: str | None = None


def prepare(
    name: str | None,
    root: Path,
    *,
    every: bool = False,
    archives: Sequence[Path] = (),
    mirror: str | None = None,
    stand_in: StandIn | None = None,
    progress: bool = True,
) -> int:
    """Prepare one dataset or every one, see `prepare_dataset` and `prepare_all`; return the exit status.

    Raises:
        ConfigError: If neither or both are asked for, options contradict each other, or `mirror` is no address.
        NucbenchError: If one dataset is asked for and cannot be prepared.
    """
    if (name is None) != every:
        raise ConfigError("name one dataset, or give --all (nucbench list datasets shows them)")
    if archives and (every or stand_in is not None):
        raise ConfigError(f"--from belongs to one real dataset, not to {'--all' if every else '--synthetic'}")
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise ConfigError(f"--mirror {mirror} is no address; it begins with https:// or http://")
    if name is None:
        return prepare_all(root, mirror=mirror, stand_in=stand_in, progress=progress)
    prepare_dataset(name, root, archives=archives, mirror=mirror, stand_in=stand_in, progress=progress)
    return 0


def prepare_dataset(
    name: str,
    root: Path,
    *,
    archives: Sequence[Path] = (),
    mirror: str | None = None,
    stand_in: StandIn | None = None,
    progress: bool = True,
) -> None:
    """Get a dataset if it is not there, then read every image and print what is there against the card.

    Args:
        name: The dataset.
        root: Folder with one folder per dataset.
        archives: Archives to unpack, see `benchmark.data.obtain.obtain`.
        mirror: Address to download from in place of those of the card.
        stand_in: Write synthetic images in place of real ones.
        progress: Show progress bars.

    Raises:
        ConfigError: If there is no such dataset, another process prepares it, or synthetic images would be mixed with
            existing files.
        DataError: If the dataset cannot be had, or an image or annotation cannot be read.
    """
    kind = dataset_class(name)
    folder = root / name
    if stand_in is not None:
        write_stand_in(name, folder, stand_in)
    else:
        obtain(kind, folder, archives=archives, mirror=mirror, progress=progress)
    check_dataset(kind, folder, progress=progress)


def check_dataset(kind: type[NucleiDataModule], folder: Path, *, progress: bool = True) -> None:
    """Read every image of a dataset and print what is there against the card.

    Raises:
        DataError: If the dataset is missing, or an image or annotation cannot be read.
    """
    data = kind(folder)
    card = data.card
    found: Counter[str] = Counter()
    nuclei = 0
    contradictions: list[str] = []
    for record in track(data.records, f"reading {card.name}", progress):
        sample = data.read(record)
        nuclei += sample.truth.count
        found[record.split] += 1
        contradictions += _contradiction(record.image, sample.magnification)
    print(f"{card.title} in {folder}: {sum(found.values())} images, {nuclei} nuclei")
    for split, expected in (card.images or found).items():  # a set of the user's own has no release
        note = "" if found[split] == expected else f"  (the release has {expected})"
        print(f"  {split}: {found[split]} images{note}")
    if (folder / SYNTHETIC_MARKER).exists():
        if not card.generated:
            print(f"  These images are synthetic, not {card.title}.")
    elif card.nuclei is not None and nuclei != card.nuclei:
        print(
            f"  The card states {card.nuclei} nuclei; versions in circulation differ, and each run stores what it saw."
        )
    if (
        any(found[split] < count for split, count in required(card).items())
        and not (folder / SYNTHETIC_MARKER).exists()
    ):
        print(f"  Incomplete: --from ARCHIVE adds what is missing; or move {folder} away and prepare it anew.")
    if contradictions:
        print(f"  {len(contradictions)} images state another magnification: {contradictions[0]}.")
    for note in card.notes:
        print(f"  {note}")


def _contradiction(image: Path, magnification: float | None) -> list[str]:
    """Return one text if an image file contradicts the magnification by which it is used, otherwise none."""
    try:
        stated = stated_magnification(image)
    except DataError as error:
        return [str(error)]
    if stated is None or not differs(stated, magnification):
        return []
    return [f"{image} states {stated:.3g}x and is used as {magnification:.3g}x"]


def prepare_all(
    root: Path, *, mirror: str | None = None, stand_in: StandIn | None = None, progress: bool = True
) -> int:
    """Prepare every dataset; one that fails does not stop the others. A table at the end says how each went.

    Datasets that the user must fetch, make or own are no failure.

    Returns:
        1 if a download, an archive or an image failed, 0 otherwise.
    """
    outcomes = {}
    for name in DATASETS:
        before = is_there(root / name)
        try:
            prepare_dataset(name, root, mirror=mirror, stand_in=stand_in, progress=progress)
            state = presence(dataset_class(name), root / name).text(dataset_class(name).card)
            outcomes[name] = (state, "" if before else "written now" if stand_in else "fetched now")
        except ByHandError:
            outcomes[name] = ("not found", f"by hand: nucbench prepare {name} says how")
        except NucbenchError as error:
            print(f"{name}: {error}")
            outcomes[name] = ("failed", textwrap.shorten(str(error).splitlines()[0], 120, placeholder=" ..."))
    table = Table("dataset", "state", "what happened")
    for name, (state, note) in outcomes.items():
        table.add_row(name, state, note)
    wide_console().print(table)
    return int(any(state == "failed" for state, _ in outcomes.values()))


def write_stand_in(name: str, folder: Path, stand_in: StandIn) -> None:
    """Write synthetic images in a dataset's layout, with a marker so that their scores are never taken for real ones.

    Raises:
        ConfigError: If `folder` holds files already, other than downloads, or the dataset has no such source.
        DataError: If the source is asked for and not there.
    """
    if is_there(folder):
        raise ConfigError(
            f"{folder} is not empty; synthetic images are never mixed with other files. Give another --data, or remove "
            "the folder."
        )
    kind = dataset_class(name)
    source = _source(kind, folder.parent, stand_in.source)
    if source is None:
        kind.write_synthetic(folder, images=stand_in.images, size=stand_in.size or SIZE, seed=stand_in.seed)
    else:
        kind.write_simulated(folder, source, images=stand_in.images, size=stand_in.size, seed=stand_in.seed)
    (folder / SYNTHETIC_MARKER).write_text("Synthetic images written by nucbench; not the real dataset.\n")


def _source(kind: type[NucleiDataModule], root: Path, wanted: str | None) -> NucleiDataModule | None:
    """Return the dataset whose annotation images are simulated from, None = outlines are generated; print which."""
    name, outlines = kind.card.name, kind.card.outlines
    if not outlines:
        if wanted is not None:
            raise ConfigError(f"--source {wanted}: {name} is not simulated from another dataset's annotation")
        return None
    if wanted not in (None, GENERATED, outlines):
        raise unknown_name(f"source of {name}", wanted, (outlines, GENERATED))
    folder = root / outlines
    found = presence(dataset_class(outlines), folder)
    whole = found.state == "found" and not found.synthetic
    state = f"in {folder}: {found.text(dataset_class(outlines).card)}"
    if wanted == outlines and not whole:
        raise DataError(
            f"--source {outlines}: {name} is simulated from the annotation of {outlines}, and {outlines} is not whole "
            f"({state}). `nucbench prepare {outlines}` gets it; --source {GENERATED} does without."
        )
    if whole and wanted != GENERATED:
        print(f"{name}: simulated from the annotation of {outlines} in {folder}")
        return dataset_class(outlines)(folder)
    why = "as asked for" if wanted else f"since {outlines} is not there ({state})"
    print(f"{name}: simulated from generated outlines, {why}")
    return None
