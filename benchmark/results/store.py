"""The run directory; all files are written atomically."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.host.files import atomic, held, read_json, write_json
from benchmark.results.spec import FORMAT, RunSpec
from benchmark.results.trained_images import TRAINED_IMAGES
from datamodules.reading.files import MAX_PIXELS
from postproc.cells import shown_frame
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

if TYPE_CHECKING:
    import pandas as pd


class RunStore:
    """Files of one run.

    Args:
        root: Folder of all runs.
        run_id: Folder of this run, relative to `root`.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        self.root = root
        self.run_id = run_id
        self.path = root / run_id

    @classmethod
    def create(cls, root: Path, spec: RunSpec) -> RunStore:
        """Return the store of `spec`; write spec.json if it is new."""
        store = cls(root, spec.run_id)
        if not store.spec_file.exists():
            write_json(store.spec_file, {"format": FORMAT, **spec.to_dict()})
        return store

    @classmethod
    def open(cls, path: Path) -> RunStore:
        """Return the store of an existing run directory.

        Raises:
            ConfigError: If `path` is not a run directory.
        """
        path = path.resolve()
        if not (path / "spec.json").is_file():
            raise ConfigError(
                f"{path} is not a run directory: it has no spec.json. Give the folder of a run, "
                "for example runs/dist/kumar/paper-s0-1234abcd"
            )
        above = path.parents[min(3, len(path.parents)) - 1]  # a run may be near the root of the file system
        return cls(above, str(path.relative_to(above)))

    @property
    def spec_file(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.json"

    @property
    def record_file(self) -> Path:
        """Record that leaderboards read; it exists once training and tuning are complete."""
        return self.path / "record.json"

    @property
    def params_file(self) -> Path:
        """Post-processing parameters per variant."""
        return self.path / "params.json"

    @property
    def trained_images_file(self) -> Path:
        """Hashes of the training images."""
        return self.path / TRAINED_IMAGES

    @property
    def parent_file(self) -> Path:
        """Model that the run started from, if any."""
        return self.path / "parent.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def weights_file(self) -> Path:
        """Weights of the finished training."""
        return self.checkpoints / "final.pt"

    def spec(self) -> RunSpec:
        """Return the stored spec.

        Raises:
            DataError: If another version wrote it.
        """
        content = read_json(self.spec_file)
        if content.pop("format", None) != FORMAT:
            raise DataError(f"{self.spec_file} was written by another version of nucbench; run it again")
        return RunSpec.from_dict(content, str(self.spec_file))

    def unpublishable(self, record: Mapping[str, Any]) -> str:
        """Say why the scores of a finished run are not published; empty if they are.

        Args:
            record: The content of its record.
        """
        data = record.get("data")
        if isinstance(data, Mapping) and data.get("synthetic"):
            return f"{self.path} was trained on synthetic stand-ins; its scores are not published"
        for file in sorted(self.path.glob("evaluations/*/*/evaluation.json")):
            if read_json(file).get("synthetic"):
                return f"{file.parent} was scored on synthetic stand-ins; such scores are not published"
        return ""

    def prediction_file(self, dataset: str, variant: str, image_id: str) -> Path:
        """Return the file of the predicted nuclei of an image."""
        return self.path / "predictions" / dataset / variant / f"{image_id}.npz"

    def evaluation(self, target: str, variant: str) -> Path:
        """Return the folder of one evaluation."""
        return self.path / "evaluations" / target / variant

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run, so that no second process writes to it.

        Raises:
            BusyError: If another process has locked it.
        """
        with held(self.path, "working on"):
            for left in self.path.rglob(".*.part"):  # of a process that was killed while it wrote
                left.unlink(missing_ok=True)
            yield


CANDIDATES = ".candidates.npz"
"""Suffix of candidate files."""
LARGEST = 8 * MAX_PIXELS
"""Maximum bytes of the arrays of a prediction: int32 labels, and the same again for the other arrays."""


def candidates_file(prediction: Path) -> Path:
    """Return the file of the candidates of a prediction, for methods that have candidates (`Codec.candidates`)."""
    return prediction.with_name(f"{prediction.stem}{CANDIDATES}")


def write_instances(path: Path, instances: Instances) -> None:
    """Write nuclei as a compressed .npz."""
    arrays: dict[str, Any] = {"shape": np.array(instances.shape)}
    for name in ("labels", "points", "types", "scores", "regions"):
        value = getattr(instances, name)
        if value is not None:
            arrays[name] = value
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def read_instances(path: Path) -> Instances:
    """Read a file of `write_instances`.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise ValueError(f"its arrays have {size:,} bytes, more than the limit of {LARGEST:,}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        height, width = (int(v) for v in arrays.pop("shape"))
        return Instances((height, width), **arrays)
    except Exception as error:  # on damaged files numpy raises many types, even zlib.error and tokenize.TokenError
        raise DataError(
            f"cannot read the prediction {path}: {type(error).__name__}: {error}. Delete it and run again."
        ) from error


def write_scores(path: Path, scores: pd.DataFrame) -> None:
    """Write per-image scores as CSV, with all digits; spreadsheets run no name as a formula (`postproc.cells`)."""
    with atomic(path, "w") as file:
        shown_frame(scores).to_csv(file, index=False, lineterminator="\n")
