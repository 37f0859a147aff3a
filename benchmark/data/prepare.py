"""`nucbench prepare`: get a dataset and check it, or write a synthetic stand-in."""

from __future__ import annotations

import tempfile
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from benchmark.data.obtain import ByHandError, obtain
from benchmark.data.presence import is_there, presence, required
from benchmark.host.console import wide_console
from benchmark.host.progress import track
from benchmark.registry import DATASETS, dataset_class
from datamodules.base import SYNTHETIC_MARKER, NucleiDataModule
from datamodules.reading.magnification import differs, stated_magnification
from datamodules.reading.sample import Sample
from datamodules.synthetic_sets import GENERATED
from postproc.errors import ConfigError, DataError, NucbenchError, unknown_name

SIZE = 256
"""Default side of synthetic images in pixels."""


@dataclass(frozen=True)
class StandIn:
    """Settings of synthetic images.

    Attributes:
        images: Number over all splits; None = the smallest number that fills every split.
        size: Side in pixels; None = 256, or that of the annotation used for simulation.
        seed: Seed of the generator.
        source: Source of the outlines for datasets that are simulated from the annotation of another dataset:
            ``generated``, or the name of that dataset; None = that dataset if it is complete.
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
    """Prepare one or all datasets, see `prepare_dataset` and `prepare_all`; return the exit status.

    Raises:
        ConfigError: If not exactly one of `name` and `every` is given, options conflict, or `mirror` is not an address.
        NucbenchError: If a single dataset cannot be prepared.
    """
    if (name is None) != every:
        raise ConfigError("name one dataset, or give --all (nucbench list datasets shows them)")
    if archives and (every or stand_in is not None):
        raise ConfigError(f"--from is for a single real dataset, not for {'--all' if every else '--synthetic'}")
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise ConfigError(f"--mirror is {mirror}; give an address that begins with https:// or http://")
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
    """Get a dataset if it is missing, then read all images and compare them with the card.

    Args:
        name: The dataset.
        root: Folder with one subfolder per dataset.
        archives: Archives to unpack, see `benchmark.data.obtain.obtain`.
        mirror: Address to download from instead of those of the card.
        stand_in: Write synthetic images instead of real ones.
        progress: Show progress bars.

    Raises:
        ConfigError: If the dataset is unknown, another process is preparing it, or synthetic images would be mixed with
            existing files.
        DataError: If the dataset is unavailable, or an image or annotation cannot be read.
    """
    kind = dataset_class(name)
    folder = root / name
    if stand_in is not None:
        write_stand_in(name, folder, stand_in)
    else:
        obtain(kind, folder, archives=archives, mirror=mirror, progress=progress)
    check_dataset(kind, folder, progress=progress)


@dataclass
class _Counts:
    """Images and nuclei of one split.

    Attributes:
        images: Number of images.
        validation: Number of those that are kept for validation.
        nuclei: Number of nuclei.
        types: Type 1..T (0 = unknown) -> number of nuclei.
    """

    images: int = 0
    validation: int = 0
    nuclei: int = 0
    types: Counter[int] = field(default_factory=Counter)

    def add(self, sample: Sample, *, validation: bool) -> None:
        """Count an image."""
        self.images += 1
        self.validation += validation
        self.nuclei += sample.truth.count
        if sample.truth.types is not None:
            self.types.update(sample.truth.types.tolist())

    def text(self, names: Sequence[str]) -> str:
        """Return the nuclei by type: ``, 812 nuclei: 500 tumour, 312 other``."""
        kinds = [f"{self.types[kind]:,} {name}" for kind, name in enumerate(names, start=1)] if self.types else []
        kinds += [f"{self.types[0]:,} without a type"] if self.types[0] else []
        held = f", {self.validation} of them for validation" if self.validation else ""
        return f"{held}, {self.nuclei:,} nuclei" + (f": {', '.join(kinds)}" if kinds else "")


def check_dataset(kind: type[NucleiDataModule], folder: Path, *, progress: bool = True) -> None:
    """Read all images of a dataset, and print their number compared with the card.

    Raises:
        DataError: If the dataset is missing, or images or annotations cannot be read; the message names all of them.
    """
    data = kind(folder)
    card = data.card
    if not folder.is_dir():
        raise DataError(data.missing_message())
    records, problems = kind.survey(folder)
    if not records and not problems:
        raise DataError(f"no image found. {data.missing_message()}")
    counts: dict[str, _Counts] = {}
    contradictions: list[str] = []
    for record in track(records, f"reading {card.name}", progress):
        try:
            sample = data.read(record)
        except DataError as error:
            problems.append(str(error))
            continue
        counts.setdefault(record.split, _Counts()).add(sample, validation=record.validation)
        contradictions += _contradiction(record.image, sample.magnification)
    found = Counter({split: each.images for split, each in counts.items()})
    nuclei = sum(each.nuclei for each in counts.values())
    print(f"{card.title} in {folder}: {sum(found.values())} images, {nuclei} nuclei")
    for split, expected in (card.images or found).items():  # user datasets have no release
        note = "" if found[split] == expected else f"  (the release has {expected})"
        print(f"  {split}: {found[split]} images{note}{counts.get(split, _Counts()).text(card.types)}")
    if problems:
        rest = f"{len(problems)} problems; correct them, then run nucbench prepare {card.name} again"
        raise DataError("\n".join([*problems, rest]) if problems[1:] else problems[0])
    if (folder / SYNTHETIC_MARKER).exists():
        if not card.generated:
            print(f"  These images are synthetic, not {card.title}.")
    elif card.nuclei is not None and nuclei != card.nuclei:
        print(f"  The card states {card.nuclei} nuclei; published versions differ, and each run records its data.")
    if (
        any(found[split] < count for split, count in required(card).items())
        and not (folder / SYNTHETIC_MARKER).exists()
    ):
        print(f"  Incomplete: add the missing images with --from ARCHIVE, or move {folder} away and prepare it again.")
    if contradictions:
        print(f"  {len(contradictions)} images state another magnification: {contradictions[0]}.")
    for note in card.notes:
        print(f"  {note}")


def _contradiction(image: Path, magnification: float | None) -> list[str]:
    """Return a message if the image file states another magnification than the one used, otherwise an empty list."""
    try:
        stated = stated_magnification(image)
    except DataError as error:
        return [str(error)]
    if stated is None or not differs(stated, magnification):
        return []
    return [f"{image} states {stated:.3g}x but is used as {magnification:.3g}x"]


def prepare_all(
    root: Path, *, mirror: str | None = None, stand_in: StandIn | None = None, progress: bool = True
) -> int:
    """Prepare all datasets and print a table of the results; a failure does not stop the others.

    Datasets that the user must download or make do not count as failures.

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
            outcomes[name] = ("not found", f"by hand: run nucbench prepare {name} for instructions")
        except NucbenchError as error:
            print(f"{name}: {error}")
            outcomes[name] = ("failed", textwrap.shorten(str(error).splitlines()[0], 120, placeholder=" ..."))
    table = Table("dataset", "state", "result")
    for name, (state, note) in outcomes.items():
        table.add_row(name, state, note)
    wide_console().print(table)
    return int(any(state == "failed" for state, _ in outcomes.values()))


def write_stand_in(name: str, folder: Path, stand_in: StandIn) -> None:
    """Write synthetic images in the layout of a dataset, with a marker that distinguishes them from real images.

    They are written next to `folder` and moved once complete, so that a process killed in between leaves no part of a
    dataset, which would lack the marker.

    Raises:
        ConfigError: If `folder` contains files other than downloads, or the dataset has no such source.
        DataError: If the requested source is missing.
    """
    if is_there(folder):
        raise ConfigError(
            f"{folder} is not empty; synthetic images are never mixed with other files. Give another --data, or remove "
            "the folder."
        )
    kind = dataset_class(name)
    source = _source(kind, folder.parent, stand_in.source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        work = Path(temporary) / folder.name
        if source is None:
            kind.write_synthetic(work, images=stand_in.images, size=stand_in.size or SIZE, seed=stand_in.seed)
        else:
            kind.write_simulated(work, source, images=stand_in.images, size=stand_in.size, seed=stand_in.seed)
        folder.mkdir(exist_ok=True)
        (folder / SYNTHETIC_MARKER).write_text("Synthetic images written by nucbench; not the real dataset.\n")
        for path in sorted(work.iterdir()):
            path.rename(folder / path.name)  # downloads may lie in the folder


def _source(kind: type[NucleiDataModule], root: Path, wanted: str | None) -> NucleiDataModule | None:
    """Return the dataset whose annotation is simulated, None for generated outlines; print the choice."""
    name, outlines = kind.card.name, kind.card.outlines
    if not outlines:
        if wanted is not None:
            raise ConfigError(f"--source {wanted}: {name} is not simulated from the annotation of another dataset")
        return None
    if wanted not in (None, GENERATED, outlines):
        raise unknown_name(f"source of {name}", wanted, (outlines, GENERATED))
    folder = root / outlines
    found = presence(dataset_class(outlines), folder)
    whole = found.state == "found" and not found.synthetic
    state = f"in {folder}: {found.text(dataset_class(outlines).card)}"
    if wanted == outlines and not whole:
        raise DataError(
            f"--source {outlines}: {name} is simulated from the annotation of {outlines}, but {outlines} is incomplete "
            f"({state}). Run `nucbench prepare {outlines}`, or use --source {GENERATED}."
        )
    if whole and wanted != GENERATED:
        print(f"{name}: simulated from the annotation of {outlines} in {folder}")
        return dataset_class(outlines)(folder)
    why = "as requested" if wanted else f"because {outlines} is incomplete or missing ({state})"
    print(f"{name}: simulated from generated outlines, {why}")
    return None
