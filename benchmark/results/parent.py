"""`Parent`: the trained model whose weights a run starts from (``--start-from``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from benchmark.host.files import file_hash, read_json
from benchmark.registry import DATASETS, dataset_class, method_class
from benchmark.results.known_models import find_model
from benchmark.results.model_folder import Description
from benchmark.results.record import read_record
from benchmark.results.store import RunStore
from benchmark.results.trained_images import TRAINED_IMAGES
from datamodules.reading.schema import OPEN, Name, Positive, Text, check
from postproc.errors import ConfigError, DataError

_DIGITS = 8
# of the hash, in the name of rows; a table of results holds few models


@dataclass(frozen=True)
class Parent:
    """A trained model as the start of another training.

    Attributes:
        name: Name of an exported or shipped model, or id of a run.
        sha256: SHA-256 of its file of weights.
        method: Registry name of its method.
        types: Names of its nucleus types 1..T.
        magnification: Magnification of its training images; None = unknown.
        trained_on: Its training sets and those of the models that it was started from, each ``dataset.split``.
        licence: Licence of its weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    name: Name
    sha256: Name
    method: Name
    types: tuple[Name, ...]
    magnification: Positive | None
    trained_on: tuple[Name, ...]
    licence: Text

    @property
    def label(self) -> str:
        """Name and beginning of the hash, as in spec, record and tables."""
        return f"{re.sub(r'[^A-Za-z0-9._/+-]+', '-', self.name)[:80]}@{self.sha256[:_DIGITS]}"

    @classmethod
    def read(cls, path: Path) -> Parent | None:
        """Return the parent stored in a run directory, None if the run has none.

        Raises:
            DataError: If the file is damaged.
        """
        return check(cls, read_json(path), str(path), DataError) if path.exists() else None


@dataclass(frozen=True)
class Start:
    """How a run started from its parent.

    Attributes:
        parent: The parent.
        source: Run directory, model folder, or name of a shipped model.
        new: Tensors of the run that the parent lacks or has in another shape, since the types differ.
        left_out: Tensors of the parent that the run does not have.
    """

    parent: Parent
    source: Path
    new: tuple[str, ...]
    left_out: tuple[str, ...]


def find_parent(source: str) -> tuple[Parent, Mapping[str, Any]]:
    """Find a trained model.

    Args:
        source: Run directory, model folder, or name of a shipped model.

    Returns:
        The model, and the options of its method that are not about initial weights.

    Raises:
        ConfigError: If it does not exist, is unfinished or has no weights.
        DataError: If a file is damaged.
    """
    path = Path(source).expanduser()
    folder = find_model(path)
    if folder is not None:
        model = Description.read(folder)
        licence = model.licence
        return Parent(
            model.name, model.sha256, model.method, model.types, model.magnification, model.trained_on, licence
        ), model.options
    store = RunStore.open(path)
    if not store.record_file.exists():
        raise ConfigError(f"start_from={source}: the run is not finished; finish it by running its command again")
    spec, record = store.spec(), read_record(store.record_file)
    if not store.weights_file.is_file():
        why = f"{spec.method} trains nothing" if not method_class(spec.method).card.trained else "its file is missing"
        raise ConfigError(f"start_from={source}: the run has no weights, {store.weights_file}: {why}")
    sha256 = file_hash(store.weights_file)
    above = Parent.read(store.parent_file)
    licence = record.get("adopted", {}).get("licence") or data_licence(target.dataset for target in spec.training_sets)
    if above is not None:
        licence = f"{licence}; {above.name}: {above.licence}"
    sets = (*(str(target) for target in spec.training_sets), *(above.trained_on if above else ()))
    return Parent(
        str(record["run_id"]), sha256, spec.method, tuple(record["task"]["types"]), record["magnification"],
        tuple(dict.fromkeys(sets)), licence,
    ), spec.options  # fmt: skip


def trained_images_file(source: Path) -> Path:
    """Return the file with the hashes of the training images of a model; it may be missing."""
    folder = find_model(source)
    return RunStore.open(source).trained_images_file if folder is None else folder / TRAINED_IMAGES


def inherited_options(source: str, method: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the label of a model, and the options of a run that starts from it: those given, then the model's.

    Args:
        source: As for `find_parent`.
        method: Method of the run.
        given: Options of the run.

    Raises:
        ConfigError: If the model is of another method, or initial weights are given too.
    """
    from benchmark.options import option_defaults, weight_options  # import torch

    parent, options = find_parent(source)
    if parent.method != method:
        raise ConfigError(f"start_from={source}: it is a model of {parent.method}, not of {method}")
    kind = method_class(method)
    initial = weight_options(kind)
    for name in initial:
        if name in given:
            raise ConfigError(f"leave out option {name}: all weights are those of start_from={source}")
    defaults = option_defaults(kind)
    own = {k: v for k, v in options.items() if k not in initial and k in defaults and v != defaults[k]}
    return parent.label, {**own, **given}


def data_licence(datasets: Any) -> str:
    """Return the licence of weights that were trained on some datasets; other datasets are left out."""
    cards = {name: dataset_class(name).card for name in datasets if name in DATASETS}
    if not cards:
        return "unknown"
    return "as the training data: " + "; ".join(f"{name}: {card.licence or 'unknown'}" for name, card in cards.items())


__all__ = ["Parent", "Start", "data_licence", "find_parent", "inherited_options", "trained_images_file"]
