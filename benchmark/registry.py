"""Names of methods, datasets and tables, imported only when requested.

Installed packages can add their own: an entry point of the group ``nucbench.methods``, ``nucbench.datasets`` or
``nucbench.tables`` with the name and ``module:class``. Names become folders, so they have lower-case letters, digits,
"-" and "_" only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import TYPE_CHECKING, Any

from postproc.errors import ConfigError, one_line, short, unknown_name

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from models.base.method import NucleiMethod

METHODS = {
    "cellprofiler": "models.cellprofiler:CellProfiler",
    "cianet": "models.cianet:CIANet",
    "cnn2": "models.cnn2:CNN2",
    "cnn3": "models.cnn3:CNN3",
    "dcan": "models.dcan:DCAN",
    "deconvnet": "models.deconvnet:DeconvNet",
    "dist": "models.dist:DIST",
    "dran": "models.dran:DRAN",
    "ensemble": "models.ensemble:Ensemble",
    "fcn8": "models.fcn8:FCN8",
    "fcrn-a": "models.fcrn:FCRNA",
    "fcrn-b": "models.fcrn:FCRNB",
    "fiji": "models.fiji:Fiji",
    "frcn": "models.frcn:FRCN",
    "hover-lite": "models.hover_lite:HoverLite",
    "hovernet": "models.hovernet:HoVerNet",
    "ki67-fcn8s": "models.fcn8_points:FCN8Points",
    "ki67-unet": "models.unet_points:UNetPoints",
    "kinet": "models.kinet:KiNet",
    "mask-rcnn": "models.mask_rcnn:MaskRCNN",
    "micronet": "models.micronet:MicroNet",
    "pangnet": "models.pangnet:PangNet",
    "qupath": "models.qupath:QuPath",
    "sc-cnn": "models.sc_cnn:SCCNN",
    "segnet": "models.segnet:SegNet",
    "self-supervised": "models.self_supervised:SelfSupervised",
    "sfcn-opi": "models.sfcn_opi:SFCNOPI",
    "stardist": "models.stardist:StarDist",
    "unet": "models.unet:UNet",
    "unet-dist": "models.unet_dist:UNetDIST",
}
"""Method name -> "module:class"."""

DATASETS = {
    "brca-m2c": "datamodules.brca_m2c:BRCAM2C",
    "conic": "datamodules.conic:CoNIC",
    "consep": "datamodules.consep:CoNSeP",
    "cpm15": "datamodules.cpm15:CPM15",
    "cpm17": "datamodules.cpm17:CPM17",
    "crchisto": "datamodules.crchisto:CRCHisto",
    "ki67": "datamodules.ki67:Ki67",
    "kumar": "datamodules.kumar:Kumar",
    "lizard": "datamodules.lizard:Lizard",
    "masks": "datamodules.masks:Masks",
    "monusac": "datamodules.monusac:MoNuSAC",
    "monuseg": "datamodules.monuseg:MoNuSeg",
    "nuinsseg": "datamodules.nuinsseg:NuInsSeg",
    "pannuke": "datamodules.pannuke:PanNuke",
    "points-csv": "datamodules.points_csv:PointsCSV",
    "puma": "datamodules.puma:PUMA",
    "synthetic": "datamodules.synthetic_sets:Synthetic",
    "synthetic-dist": "datamodules.synthetic_sets:SyntheticDIST",
    "tiles": "datamodules.tiles:Tiles",
    "tnbc": "datamodules.tnbc:TNBC",
}
"""Dataset name -> "module:class"."""

TABLES = {
    "ablation_branches": "leaderboards.papers.ablation_branches:AblationBranches",
    "classification": "leaderboards.papers.classification:Classification",
    "conic": "leaderboards.papers.conic:Conic",
    "dist_search": "leaderboards.papers.dist_search:DistSearch",
    "distance_targets": "leaderboards.papers.distance_targets:DistanceTargets",
    "generalisation": "leaderboards.papers.generalisation:Generalisation",
    "ki67": "leaderboards.papers.ki67:Ki67",
    "kumar_images": "leaderboards.papers.kumar_images:KumarImages",
    "kumar_test": "leaderboards.papers.kumar_test:KumarTest",
    "leave_one_patient_out": "leaderboards.papers.leave_one_patient_out:LeaveOnePatientOut",
    "loss_terms": "leaderboards.papers.loss_terms:LossTerms",
    "pannuke": "leaderboards.papers.pannuke:PanNukeTissues",
    "postprocessing": "leaderboards.papers.postprocessing:Postprocessing",
    "segmentation": "leaderboards.papers.segmentation:Segmentation",
    "self_supervised": "leaderboards.papers.self_supervised:SelfSupervised",
    "significance": "leaderboards.statistics.significance:Significance",
    "speed": "leaderboards.papers.speed:Speed",
    "statistics": "leaderboards.statistics.intervals:Statistics",
    "training_sets": "leaderboards.papers.training_sets:TrainingSets",
}
"""Table name -> "module:class"."""


NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
"""Valid names; they become folders of runs and files of tables."""
LONGEST = 60
"""Maximum number of characters of a name."""
GROUPS = {"nucbench.methods": METHODS, "nucbench.datasets": DATASETS, "nucbench.tables": TABLES}
INSTALLED: dict[str, str] = {}
"""Entries of other packages: "methods.NAME" (or datasets, tables) -> package."""
IGNORED: dict[str, str] = {}
"""Entries of other packages that are not added: "methods.NAME" (or datasets, tables) -> reason."""


def _add_installed() -> None:
    """Add the entry points of installed packages; nucbench's own names cannot be replaced."""
    own = {group: set(registry) for group, registry in GROUPS.items()}
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for point in _points():
        found.setdefault((point.group, point.name), set()).add((_package(point), point.value))
    for (group, name), places in sorted(found.items()):
        entry, packages = f"{group.removeprefix('nucbench.')}.{name}", " and ".join(sorted({p for p, _ in places}))
        if len(name) > LONGEST or not NAME.fullmatch(name):
            IGNORED[entry] = (
                f"the name {short(name)} of the package {packages} must have lower-case letters, digits, '-' and '_' "
                f"only, up to {LONGEST}"
            )
        elif name in own[group]:
            IGNORED[entry] = f"the package {packages} cannot replace {name!r} of nucbench"
        elif len(places) > 1:
            IGNORED[entry] = f"{name!r} is declared more than once, by {packages}; uninstall all but one"
        else:
            ((INSTALLED[entry], GROUPS[group][name]),) = places


def _points() -> Iterator[EntryPoint]:
    """Iterate over the entry points of nucbench's groups; packages with damaged metadata are skipped."""
    try:
        points = [point for group in GROUPS for point in entry_points(group=group)]
    except Exception:  # of any package, related to nucbench or not
        points = []
        for package in distributions():
            with suppress(Exception):
                points += package.entry_points
    return (point for point in points if point.group in GROUPS)


def _package(point: EntryPoint) -> str:
    name = None
    with suppress(Exception):  # damaged metadata
        name = point.dist.name if point.dist else None
    return name or "an installed package"


_add_installed()


def method_class(name: str) -> type[NucleiMethod]:
    """Return the class of a method.

    Raises:
        ConfigError: If no method has that name.
    """
    return _load("method", name, METHODS)  # type: ignore[no-any-return]  # the registry names classes as strings


def dataset_class(name: str) -> type[NucleiDataModule]:
    """Return the class of a dataset.

    Raises:
        ConfigError: If no dataset has that name.
    """
    return _load("dataset", name, DATASETS)  # type: ignore[no-any-return]


def table_class(name: str) -> Any:
    """Return the class of a table.

    Raises:
        ConfigError: If no table has that name.
    """
    return _load("table", name, TABLES)


def _load(kind: str, name: str, registry: dict[str, str]) -> Any:
    if name not in registry:
        ignored = IGNORED.get(f"{kind}s.{name}")
        raise ConfigError(f"{kind} {name!r}: {ignored}") if ignored else unknown_name(kind, name, registry)
    module, _, attribute = registry[name].partition(":")
    package = INSTALLED.get(f"{kind}s.{name}")
    try:
        return getattr(import_module(module), attribute)
    except Exception as wrong:  # code of another package may raise anything
        if package is None:
            raise
        where = f"{kind} {name!r} of the package {package!r} ({registry[name]!r})"
        raise ConfigError(
            f"{where} cannot be loaded: {one_line(str(wrong))}. Correct or uninstall the package."
        ) from wrong
