"""`DatasetCard`: the facts about a dataset, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Download:
    """A file that can be fetched without a form or a sign-in.

    Attributes:
        file: Name that it gets in the folder ``downloads`` of the dataset.
        url: Its address.
        size: Bytes as published, None where no source states them.
        checksum: ``md5:...`` or ``sha256:...`` as published. None where no source states one: the hash of what was
            first downloaded is then kept beside it and compared with later downloads, which verifies nothing.
        source: Where the address, and size and checksum where given, were found.
    """

    file: str
    url: str
    size: int | None = None
    checksum: str | None = None
    source: str = ""


@dataclass(frozen=True)
class DatasetCard:
    """Facts about a dataset, from which lists, documentation and checks are made.

    Attributes:
        name: Registry name, lower case.
        title: Name as printed in tables.
        aliases: Other spellings in published tables.
        summary: One sentence for `nucbench list datasets`.
        images: Images per split, for example ``{"train": 16, "test": 14}``; splits as in ``splits/<name>.csv``.
        nuclei: Annotated nuclei in the whole public release, None where no source states it.
        types: Names of the nucleus types 1..T in order; empty where the dataset has none.
        magnification: Objective magnification; None where it differs between images.
        mpp: Microns per px; None where unknown.
        radius: Px within which a detection counts as found (12 at 40x, 6 at 20x, 16 for Ki67).
        annotation: ``"instances"``, ``"points"``, or ``"none"`` where there is none.
        licence: Licence or terms of use as published.
        citation: Paper to cite.
        url: Where to get the data.
        layout: What must lie in the dataset's folder, shown in the error for a missing one.
        notes: What a user should know about versions in circulation.
        downloads: Archives that `nucbench prepare` fetches; empty where a form or a sign-in stands before them.
        steps: What to do by hand where there are no downloads, or where they do not work. ``{downloads}`` stands for
            the folder of archives, ``{folder}`` for the dataset's folder.
        inside: Folder of the archives that holds the dataset, for example ``*/datasets/PNET``; empty = found by itself.
        generated: The dataset is images that nucbench generates; those that it writes are no stand-in for others.
        outlines: Dataset whose annotation the images are simulated from where it is present; empty = none. Such a
            dataset has a `write_simulated`.
    """

    name: str
    title: str
    summary: str
    images: Mapping[str, int]
    nuclei: int | None
    citation: str
    url: str
    licence: str
    layout: str
    types: tuple[str, ...] = ()
    magnification: float | None = 40.0
    mpp: float | None = None
    radius: float = 12.0
    annotation: str = "instances"
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    downloads: tuple[Download, ...] = ()
    steps: tuple[str, ...] = ()
    inside: str = ""
    generated: bool = False
    outlines: str = ""
