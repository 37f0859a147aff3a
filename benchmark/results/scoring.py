"""Score a folder of predicted label maps against a folder of annotations (`nucbench score`)."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmark.host.outputs import OVERLAY
from benchmark.host.stages import stage
from benchmark.metrics.bands import score_by_band
from benchmark.metrics.image import score_image
from benchmark.metrics.pooling import summarise
from benchmark.results.prediction_folder import COMPRESSED, results_in
from benchmark.results.store import CANDIDATES
from benchmark.results.store import read_instances as read_prediction
from datamodules.reading.files import read_instances
from datamodules.reading.outlines import OUTLINE_SUFFIXES
from datamodules.reading.rasters import label_raster
from datamodules.reading.sense import Sense
from postproc.cells import check_name
from postproc.errors import ConfigError, DataError, InputWarning
from postproc.instances import Instances

LABEL_SUFFIXES = (".mat", ".npy", ".npz", ".png", ".tif", ".tiff")
"""Suffixes of label maps; other files in the folders are ignored."""

PICKLED = (
    "The .dat files of TIAToolbox are pickles, which can execute code. Convert those that you trust in Python: "
    "json.dump(joblib.load('IN.dat'), open('OUT.json', 'w'), default=lambda array: array.tolist())"
)
"""Remedy for a folder of ``.dat`` files."""

LARGE = 20_000_000
"""Pixels above which a map is scored by bands of rows."""

OBJECT_COLUMNS = ("dice", "aji", "aji_plus", "dice2", "dq", "sq", "pq")
"""Columns of every table, after ``image``."""


def score_folders(
    truth: Path, predictions: Path, *, radius: float = 12.0, types: int | None = None, components: bool | None = None
) -> pd.DataFrame:
    """Score each annotated image of a folder, and the folder as a whole.

    Files are paired by their name without the extension; the formats may differ. Predictions of images without an
    annotation are not scored, and a warning names them.

    Args:
        truth: Folder of annotated label maps: ``.mat`` with ``inst_map`` and optionally ``inst_type``, ``.npy``,
            ``.png``, ``.tif``, or ``.npz`` as stored by runs.
        predictions: Folder of predicted label maps, in the same formats.
        radius: Distance in pixels within which a nucleus counts as detected, for F_d and F_c: 12 at 40x, 6 at 20x.
        types: Number of types T; None = the largest in any file.
        components: How to read a map whose ids fall into many parts, see `Sense`.

    Returns:
        A row per image, ordered by name, and a last row ``all``: the mean over the images that have nuclei on at least
        one side, with classification scores from counts pooled over the images. Columns ``image``, dice, aji, aji_plus,
        dice2, dq, sq, pq; if both sides have types also F_d, accuracy, F_c_1 ... F_c_T.

    Raises:
        ConfigError: If the radius or the number of types is invalid, or a folder is missing.
        DataError: If a folder has no label map, two files have the same name, a prediction is missing or
            has another size, or a file cannot be read or has invalid ids.
    """
    if not radius >= 0:
        raise ConfigError(f"radius is {radius} px; give 0 or more, for example 12 at 40x or 6 at 20x")
    if types is not None and types < 1:
        raise ConfigError(f"types is {types}; give the number of nucleus types, or omit it")
    pairs = _pairs(Path(truth), Path(predictions))
    sense, kinds = Sense(components), Kinds()
    rows = []
    for name, paths in pairs.items():
        with stage("reading and scoring"):
            rows.append(_score(name, *paths, radius, types or 0, sense, kinds))
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
    """Images that have types on one side only.

    Attributes:
        truth: Files of annotations with types whose predictions have none.
        predictions: Files of predictions with types whose annotations have none.
    """

    truth: list[Path] = field(default_factory=list)
    predictions: list[Path] = field(default_factory=list)

    def compare(self, truth: Instances, prediction: Instances, paths: tuple[Path, Path]) -> None:
        """Record the image if only one side has nuclei with types."""
        if truth.types is None and prediction.types is not None and prediction.types.any():
            self.predictions.append(paths[1])
        if prediction.types is None and truth.types is not None and truth.types.any():
            self.truth.append(paths[0])

    def tell(self) -> None:
        """Warn about types that were not scored."""
        for paths, side in ((self.truth, "prediction"), (self.predictions, "annotation")):
            if paths:
                more = f" and {len(paths) - 1} more have" if len(paths) > 1 else " has"
                warnings.warn(
                    f"{paths[0]}{more} types but the {side} does not: F_d and F_c are not scored there; types are read "
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
    """Score large maps (.npy, .tif) by bands of rows, without loading them whole; None if both are small."""
    with ExitStack() as stack:
        maps = {}
        for path in (truth, prediction):
            with suppress(DataError):  # `_read` then reads it whole, or reports the fault
                regions = label_raster(path)
                if regions is not None:
                    maps[path] = stack.enter_context(closing(regions))
        if all(m.shape[0] * m.shape[1] <= LARGE for m in maps.values()):
            return None
        for path in (truth, prediction):
            if path not in maps:
                raise DataError(f"{path}: label maps of more than {LARGE} px must be .npy or tiled .tif; convert it")
            sense.check_bands(maps[path].read, maps[path].shape, path)
        return score_by_band(maps[truth], maps[prediction], (truth, prediction))


def _read(path: Path, sense: Sense) -> Instances:
    nuclei = read_label_map(path, sense)
    if nuclei.labels is None:
        raise DataError(f"{path}: contains no label map; a .mat file needs the array inst_map (H, W)")
    return nuclei


def read_label_map(path: Path, sense: Sense) -> Instances:
    """Read a file that `find_label_maps` returned; files stored by nucbench are not checked for invalid ids.

    Raises:
        DataError: If it is damaged, contains no label map, or has invalid ids.
    """
    return read_prediction(path) if path.suffix.lower() == ".npz" else read_instances(path, sense)


def _size(nuclei: Instances) -> str:
    return f"{nuclei.shape[0]} x {nuclei.shape[1]}"


def _pairs(truth: Path, predictions: Path) -> dict[str, tuple[Path, Path]]:
    """Return the annotated and the predicted file of each image, ordered by name."""
    true_files, pred_files = find_label_maps(truth), find_label_maps(predictions)
    missing = [name for name in true_files if name not in pred_files]
    if missing:
        raise DataError(
            f"{predictions}: no prediction for {_listed(missing)} (of {len(true_files)} images in {truth}); "
            f"write one file for each ({', '.join(LABEL_SUFFIXES)}), and an empty map if nothing was found"
        )
    extra = [name for name in pred_files if name not in true_files]
    if extra:
        warnings.warn(
            f"{predictions}: not scored because {truth} has no such image: {_listed(extra)}", InputWarning, stacklevel=3
        )
    return {name: (path, pred_files[name]) for name, path in true_files.items()}


def find_label_maps(folder: Path, *, outlines: bool = False) -> dict[str, Path]:
    """Return the label maps of a folder by name without extension, ordered by name.

    The pictures that `nucbench predict` writes next to its label maps are skipped, and so are the candidates that runs
    store next to their predictions. Of two files of one name, the one that `nucbench predict` wrote stands for the
    image: the other may be the image itself.

    Args:
        folder: The folder.
        outlines: Also return files with outlines (`OUTLINE_SUFFIXES`) of images without a label map.

    Raises:
        ConfigError: If the folder is missing.
        DataError: If it has no such file, or two files have the same name.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: folder not found")
    files = _by_name(folder, LABEL_SUFFIXES)
    if outlines:
        files = _by_name(folder, OUTLINE_SUFFIXES) | files
    if not files:
        suffixes = LABEL_SUFFIXES + OUTLINE_SUFFIXES * outlines
        pickled = f". {PICKLED}" if outlines and any(folder.glob("*.dat")) else ""
        raise DataError(f"{folder}: no label map; expected files ending in {', '.join(suffixes)}{pickled}")
    return dict(sorted(files.items()))


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    results = results_in(folder)
    for path in sorted(folder.iterdir(), key=lambda path: (path.name not in results, path)):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes or not path.is_file():
            continue
        if _is_companion(path):
            continue
        check_name(path.stem, repr(str(folder)))
        if path.stem in files:
            if files[path.stem].name in results and path.name not in results:
                continue
            raise DataError(f"{path} and {files[path.stem].name} both stand for image {path.stem!r}; remove one")
        files[path.stem] = path
    return files


def _is_companion(path: Path) -> bool:
    """Tell whether a file is the picture or the candidates of a label map next to it."""
    if path.name.endswith(OVERLAY):
        outlines = f"{path.name.removesuffix(OVERLAY)}.geojson"
        return any(path.with_name(f"{outlines}{ending}").is_file() for ending in ("", COMPRESSED))
    return path.name.endswith(CANDIDATES) and path.with_name(f"{path.name.removesuffix(CANDIDATES)}.npz").is_file()


def _listed(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
