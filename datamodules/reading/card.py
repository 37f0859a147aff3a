"""`DatasetCard`: facts about a dataset, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Download:
    """A file that can be downloaded without a form or a sign-in.

    Attributes:
        file: Its name in the dataset's folder ``downloads``.
        url: Its address.
        size: Bytes as published, None if no source states them.
        checksum: ``md5:...`` or ``sha256:...`` as published. None if no source states one: the hash of the first
            download is then stored and compared with later downloads, which verifies nothing.
        source: Where the address and, if given, size and checksum were found.
    """

    file: str
    url: str
    size: int | None = None
    checksum: str | None = None
    source: str = ""


@dataclass(frozen=True)
class DatasetCard:
    """Facts about a dataset, for lists, documentation and checks.

    Attributes:
        name: Registry name, lower case.
        title: Name as printed in tables.
        aliases: Other spellings in published tables.
        summary: One sentence for `nucbench list datasets`.
        images: Images per split, for example ``{"train": 16, "test": 14}``; splits as in ``splits/<name>.csv``.
        nuclei: Annotated nuclei in the whole public release, None if no source states it.
        types: Names of the nucleus types 1..T in order; empty if the dataset has none.
        magnification: Objective magnification; None if it differs between images.
        mpp: Microns per pixel; None if unknown.
        radius: Distance, in pixels, within which a detection counts as found (12 at 40x, 6 at 20x, 16 for Ki67).
        count_border: Border of an image, in pixels, outside which the nuclei of each type are counted for the R2 of
            counts (CoNIC); None = they are not.
        annotation: ``"instances"``, ``"points"``, or ``"none"``.
        licence: Licence or terms of use as published.
        citation: Paper to cite.
        url: Where to get the data.
        layout: Expected contents of the dataset's folder, shown if it is missing.
        notes: Notes for users, for example on versions in circulation.
        downloads: Archives that `nucbench prepare` downloads; empty if a form or a sign-in is required.
        steps: Manual steps if there are no downloads, or if they fail. ``{downloads}`` is replaced by the folder of
            archives, ``{folder}`` by the dataset's folder.
        inside: Folder of the dataset in the archives, for example ``*/datasets/PNET``; empty = found automatically.
        generated: True if nucbench generates the images of the dataset; they are then not stand-ins for others.
        outlines: Dataset whose annotation is used to simulate the images, if it is present; empty = none. Such a
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
    count_border: int | None = None
    annotation: str = "instances"
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    downloads: tuple[Download, ...] = ()
    steps: tuple[str, ...] = ()
    inside: str = ""
    generated: bool = False
    outlines: str = ""
