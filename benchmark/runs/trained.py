"""Load a trained method for prediction from a run directory, a model folder or a model shipped with nucbench."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.inference.trained import Trained
from benchmark.options import weight_options
from benchmark.registry import method_class
from benchmark.results.model_folder import DESCRIPTION, Description, find_model, read_weights
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.run import fitting_params, load_run
from benchmark.runs.train import build_method
from models.base.method import Task
from models.base.weights import NONE


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
        sets = tuple(str(target) for target in spec.training_sets)
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


__all__ = ["load_trained"]
