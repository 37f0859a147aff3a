"""Score any folder of predicted label maps against a folder of annotated ones (`nucbench score`)."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmark.host.outputs import OVERLAY
from benchmark.metrics.bands import score_by_band
from benchmark.metrics.image import score_image
from benchmark.metrics.pooling import summarise
from benchmark.results.store import CANDIDATES
from benchmark.results.store import read_instances as read_prediction
from datamodules.reading.files import read_instances
from datamodules.reading.rasters import label_raster
from datamodules.reading.sense import Sense
from postproc.cells import check_name
from postproc.errors import ConfigError, DataError, InputWarning
from postproc.instances import Instances

LABEL_SUFFIXES = (".mat", ".npy", ".npz", ".png", ".tif", ".tiff")
"""Endings of the label maps that are looked for; other files in the folders are left alone."""

LARGE = 20_000_000
"""Px from which a map is scored by bands of rows."""

OBJECT_COLUMNS = ("dice", "aji", "aji_plus", "dice2", "dq", "sq", "pq")
"""Columns of every table, after ``image``."""


def score_folders(
    truth: Path, predictions: Path, *, radius: float = 12.0, types: int | None = None, components: bool | None = None
) -> pd.DataFrame:
    """Score each annotated image of a folder, and the folder as a whole.

    Files belong together if their names without the extension are equal; the formats may differ. Predictions
    of images that have no annotation are named in a warning and not scored.

    Args:
        truth: Folder of label maps: ``.mat`` with ``inst_map`` and perhaps ``inst_type``, ``.npy``, ``.png``,
            ``.tif``, ``.npz`` as runs store their predictions.
        predictions: Likewise.
        radius: Px within which a nucleus counts as detected, for F_d and F_c: 12 at 40x, 6 at 20x.
        types: Number of types T, None = the largest that occurs in any file.
        components: What a map is whose ids fall into many parts, see `Sense`.

    Returns:
        A row per image in the order of their names, and last ``all``: the mean over the images (without those
        that have no nucleus on either side), but the classification columns from counts pooled over the
        images. Columns ``image``, dice, aji, aji_plus, dice2, dq, sq, pq; where both sides have types also
        F_d, accuracy, F_c_1 ... F_c_T.

    Raises:
        ConfigError: If the radius or the number of types makes no sense.
        DataError: If a folder is missing or has no label map, two files have one name, a prediction is
            missing or of another size, a file cannot be read, or its ids make no sense.
    """
    if not radius >= 0:
        raise ConfigError(f"radius is {radius} px; give 0 or more, such as 12 at 40x or 6 at 20x")
    if types is not None and types < 1:
        raise ConfigError(f"types is {types}; give the number of nucleus types, or leave it out")
    pairs = _pairs(Path(truth), Path(predictions))
    sense, kinds = Sense(components), Kinds()
    rows = [_score(name, *paths, radius, types or 0, sense, kinds) for name, paths in pairs.items()]
    sense.tell()
    kinds.tell()
    scores = pd.DataFrame(rows)
    summary = summarise(scores)
    classes = [name for name in summary if name.startswith("F_c_") and name.removeprefix("F_c_").isdigit()]
    classes.sort(key=lambda name: int(name.removeprefix("F_c_")))
    typed = ["F_d", "accuracy", *classes] if "F_d" in summary else []
    columns = [*OBJECT_COLUMNS, *typed]
    last = pd.DataFrame([{"image": "all", **{name: summary[name] for name in columns}}])
    return pd.concat([scores.reindex(columns=["image", *columns]), last], ignore_index=True)


@dataclass
class Kinds:
    """Which images have types on one side only.

    Attributes:
        truth: Files of annotations with types whose predictions have none.
        predictions: Files of predictions with types whose annotations have none.
    """

    truth: list[Path] = field(default_factory=list)
    predictions: list[Path] = field(default_factory=list)

    def compare(self, truth: Instances, prediction: Instances, paths: tuple[Path, Path]) -> None:
        """Note an image that has nuclei with types on one side, and nuclei without on the other."""
        if truth.types is None and prediction.types is not None and prediction.types.any():
            self.predictions.append(paths[1])
        if prediction.types is None and truth.types is not None and truth.types.any():
            self.truth.append(paths[0])

    def tell(self) -> None:
        """Say that types were not scored."""
        for paths, side in ((self.truth, "prediction"), (self.predictions, "annotation")):
            if paths:
                more = f" and {len(paths) - 1} more have" if len(paths) > 1 else " has"
                warnings.warn(
                    f"{paths[0]}{more} types and the {side} none: F_d and F_c are not scored there; types are read "
                    "from inst_type, class or type_map of .mat files",
                    InputWarning,
                    stacklevel=3,
                )


def _score(
    name: str, truth: Path, prediction: Path, radius: float, types: int, sense: Sense, kinds: Kinds
) -> dict[str, str | float]:
    by_band = _score_by_band(truth, prediction, sense)
    if by_band is not None:
        return {"image": name, **by_band}
    both = [_read(truth, sense), _read(prediction, sense)]
    if both[0].shape != both[1].shape:
        raise DataError(
            f"{prediction}: {_size(both[1])} px (H x W), but {truth} has {_size(both[0])} px; "
            "predict the whole image at the size of its annotation"
        )
    kinds.compare(both[0], both[1], (truth, prediction))
    row: dict[str, str | float] = {"image": name}
    row.update(score_image(both[0], both[1], radius=radius, types=types))
    return row


def _score_by_band(truth: Path, prediction: Path, sense: Sense) -> dict[str, float] | None:
    """Score huge maps (.npy, .tif) by bands of rows, never in memory as a whole; None where both are small."""
    with ExitStack() as stack:
        maps = {}
        for path in (truth, prediction):
            with suppress(DataError):  # reading it whole says what is wrong with it, or accepts it
                regions = label_raster(path)
                if regions is not None:
                    maps[path] = stack.enter_context(closing(regions))
        if all(m.shape[0] * m.shape[1] <= LARGE for m in maps.values()):
            return None
        for path in (truth, prediction):
            if path not in maps:
                raise DataError(f"{path}: a label map of more than {LARGE} px must be .npy or a tiled .tif; convert it")
            sense.check_bands(maps[path].read, maps[path].shape, path)
        return score_by_band(maps[truth], maps[prediction], (truth, prediction))


def _read(path: Path, sense: Sense) -> Instances:
    nuclei = read_label_map(path, sense)
    if nuclei.labels is None:
        raise DataError(f"{path}: holds no label map; a .mat file needs the array inst_map (H, W)")
    return nuclei


def read_label_map(path: Path, sense: Sense) -> Instances:
    """Read one of the files that `find_label_maps` finds; those that nucbench stores are not checked for sense.

    Raises:
        DataError: If it is damaged, no label map, or its ids make no sense.
    """
    return read_prediction(path) if path.suffix.lower() == ".npz" else read_instances(path, sense)


def _size(nuclei: Instances) -> str:
    return f"{nuclei.shape[0]} x {nuclei.shape[1]}"


def _pairs(truth: Path, predictions: Path) -> dict[str, tuple[Path, Path]]:
    """Return the annotated and the predicted file of each name, in the order of the names."""
    true_files, pred_files = find_label_maps(truth), find_label_maps(predictions)
    missing = [name for name in true_files if name not in pred_files]
    if missing:
        raise DataError(
            f"{predictions}: no prediction for {_listed(missing)} (of {len(true_files)} images in {truth}); "
            f"write one file for each ({', '.join(LABEL_SUFFIXES)}), an empty map where nothing was found"
        )
    extra = [name for name in pred_files if name not in true_files]
    if extra:
        warnings.warn(
            f"{predictions}: not scored, since {truth} has no such image: {_listed(extra)}", InputWarning, stacklevel=3
        )
    return {name: (path, pred_files[name]) for name, path in true_files.items()}


def find_label_maps(folder: Path) -> dict[str, Path]:
    """Return the label maps of a folder by name without extension, in the order of the names.

    Pictures that `nucbench predict` writes beside its label maps are no label maps, and neither are the candidates that
    runs store beside their predictions.

    Raises:
        DataError: If the folder is missing or has no label map, or two files have one name.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in LABEL_SUFFIXES or not path.is_file():
            continue
        if _is_companion(path):
            continue
        check_name(path.stem, repr(str(folder)))
        if path.stem in files:
            raise DataError(f"{path} and {files[path.stem].name} both stand for image {path.stem!r}; remove one")
        files[path.stem] = path
    if not files:
        raise DataError(f"{folder}: no label map; expected files ending in {', '.join(LABEL_SUFFIXES)}")
    return dict(sorted(files.items()))


def _is_companion(path: Path) -> bool:
    """Tell whether a file is a picture of, or belongs to, a label map beside it."""
    if path.name.endswith(OVERLAY):
        return path.with_name(f"{path.name.removesuffix(OVERLAY)}.geojson").is_file()
    return path.name.endswith(CANDIDATES) and path.with_name(f"{path.name.removesuffix(CANDIDATES)}.npz").is_file()


def _listed(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
