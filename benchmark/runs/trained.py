"""Load a trained method for prediction from a run directory, a model folder or a model shipped with nucbench."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmark.host.files import read_json
from benchmark.inference.trained import Trained
from benchmark.options import weight_options
from benchmark.registry import method_class
from benchmark.results.known_models import find_model
from benchmark.results.model_folder import DESCRIPTION, Description, read_weights
from benchmark.results.parent import Parent
from benchmark.results.record import read_record
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.train import build_method, load_weights
from models.base.method import NucleiMethod, Task
from models.base.weights import NONE
from postproc.codec import Params
from postproc.errors import ConfigError, DataError, NucbenchError


def load_trained(source: Path) -> Trained:
    """Load a run directory, a model folder, or a model shipped with nucbench by its name.

    Raises:
        ConfigError: If it does not exist, or the run is unfinished.
        DataError: If a file is damaged.
    """
    folder = find_model(source)
    if folder is None:
        store = RunStore.open(source)
        method, params, record = load_run(store)
        spec = store.spec()
        above = Parent.read(store.parent_file)
        sets = (*map(str, spec.training_sets), *(above.trained_on if above else ()))
        return Trained(method, params, record["magnification"], spec.precision, sets, spec.overrides.tta)
    model = Description.read(folder)
    initial = dict.fromkeys(weight_options(method_class(model.method)), NONE)
    sets = model.trained_on
    spec = RunSpec(model.method, sets[0].partition(".")[0] if sets else "synthetic", options=model.options | initial)
    method = build_method(spec, Task(model.types, model.mpp))
    read_weights(folder, model, method)
    params = fitting_params(method, method.codecs, lambda key: model.parameters[key], folder / DESCRIPTION)
    if torch.cuda.is_available():
        method = method.cuda()
    return Trained(method.eval(), params, model.magnification, "auto", sets, model.tta)


def fitting_params(
    method: NucleiMethod, keys: Iterable[str], values: Callable[[str], Mapping[str, Any]], file: Path
) -> dict[str, Params]:
    """Build the post-processing parameters of variants from the values of a file.

    Args:
        method: The method.
        keys: Variants.
        values: Returns the values of a variant; may raise a KeyError or TypeError.
        file: The file, for messages.

    Raises:
        DataError: If values are missing or do not fit the method.
    """
    try:
        return {key: method.codecs[key].params_type(**values(key)) for key in keys}
    except (KeyError, TypeError, NucbenchError) as error:
        raise DataError(f"{file}: the parameters do not fit {method.card.name}: {error}") from error


def load_run(store: RunStore) -> tuple[NucleiMethod, dict[str, Params], dict[str, Any]]:
    """Load a finished run: method with weights, parameters per variant, and record.

    Raises:
        ConfigError: If the run is unfinished.
        DataError: If a file of the run is damaged.
    """
    if not store.record_file.exists():
        raise ConfigError(f"the run {store.path} is not finished; run the same command to resume it")
    spec = store.spec()
    initial = dict.fromkeys(weight_options(method_class(spec.method)), NONE)  # else downloaded and overwritten
    spec = dataclasses.replace(spec, options={**spec.options, **initial})
    record = read_record(store.record_file)
    method = build_method(spec, Task(tuple(record["task"]["types"]), record["task"]["mpp"]))
    if method.card.trained:
        load_weights(method, store.weights_file)
    stored = read_json(store.params_file)
    known = [key for key in method.codecs if key in stored]
    params = fitting_params(method, known, lambda key: stored[key]["params"], store.params_file)
    if not params:
        raise DataError(f"{store.params_file} has no parameters for any of {', '.join(method.codecs)}; run it again")
    if torch.cuda.is_available():
        method = method.cuda()
    return method.eval(), params, record


__all__ = ["fitting_params", "load_run", "load_trained"]
