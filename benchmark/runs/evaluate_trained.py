"""Score a finished run or a model on further sets of images: ``nucbench run MODEL --evaluate``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from benchmark.host.machine import Machine
from benchmark.options import option_defaults, weight_options
from benchmark.registry import DATASETS, method_class
from benchmark.results.known_models import find_model
from benchmark.results.model_folder import WEIGHTS, Description
from benchmark.results.run import Ready
from benchmark.results.spec import EXTERNAL, Overrides, RunSpec, Target
from benchmark.results.store import RunStore
from benchmark.results.trained_images import NOTHING_TRAINED, TRAINED_IMAGES, TrainedImages
from benchmark.runs.adopted import Adopted, digest, write_adopted
from benchmark.runs.contamination import KnownImages, hash_named
from benchmark.runs.result import Result
from benchmark.runs.run import evaluate_images, open_targets
from benchmark.runs.trained import load_run, load_trained
from benchmark.runs.trained_on import training_set
from datamodules.sources import ImageSet


def evaluate_trained(source: Path, targets: list[Target], machine: Machine) -> Result:
    """Score a trained model on sets of images; nothing is trained, and stored results are not computed again.

    A run keeps its directory. A model becomes a finished run with adopted weights in the folder of runs, so that
    tables, report and ``publish`` include its scores.

    Args:
        source: Run directory, model folder, or name of a model.
        targets: Sets to evaluate on.
        machine: Folders and resources.

    Raises:
        ConfigError: If the model does not exist, or the run is unfinished.
        DataError: If data is missing, or a file is damaged.
    """
    folder = find_model(source)
    images = open_targets(targets, machine)
    if folder is None:
        store = RunStore.open(source)
        with store.lock():
            return Result(store, score_run(store, images, machine))
    store = RunStore.create(machine.runs, _spec(Description.read(folder)))
    with store.lock():
        if not store.record_file.exists():
            _adopt(store, folder)
        return Result(store, score_run(store, images, machine))


def score_run(
    store: RunStore, images: Mapping[Target, ImageSet], machine: Machine
) -> dict[tuple[str, str], dict[str, float]]:
    """Predict and score sets of images with a finished run, whose training images need not be present.

    Args:
        store: The run; locked by the caller.
        images: The sets.
        machine: Folders and resources.

    Returns:
        Summary by set and title.
    """
    method, params, record = load_run(store)
    spec = store.spec()
    ready = Ready(spec, store, method, machine, record["magnification"])
    known = _known_images(store, spec, images, machine) if method.card.trained else KnownImages()
    scores = {}
    for each in images.values():
        scores.update(evaluate_images(ready, each, params, known))
    return scores


def _known_images(store: RunStore, spec: RunSpec, images: Mapping[Target, ImageSet], machine: Machine) -> KnownImages:
    """Return the training images of a run: their hashes, and their files among the images to score."""
    sets = spec.training_sets
    files: frozenset[Path | str] = frozenset(
        record.image
        for each in images.values()
        for target in sets
        if target.dataset == each.data.card.name
        for record in each.data.select(target.split)
    )
    file = store.trained_images_file
    if not file.exists() and (found := hash_named([str(target) for target in sets], machine)).sets:
        found.write(file)
    return KnownImages(files, TrainedImages.read(file) if file.exists() else NOTHING_TRAINED)


def _spec(model: Description) -> RunSpec:
    """Return the spec of a model as a run; the registered ones of its further training sets are kept."""
    kind = method_class(model.method)
    defaults, initial = option_defaults(kind), weight_options(kind)
    first, *others = [training_set(name) for name in model.trained_on or ("unknown",)]
    return RunSpec(
        model.method,
        first.dataset,
        split=first.split,
        protocol=EXTERNAL,
        options={k: v for k, v in model.options.items() if k not in initial and v != defaults.get(k)},
        overrides=Overrides(tta=model.tta),
        also=tuple(str(target) for target in others if target.dataset in DATASETS),
        adopted=digest(model.sha256, model.types, model.mpp, model.parameters),
    )


def _adopt(store: RunStore, folder: Path) -> None:
    """Store a model as a finished run."""
    model, trained = Description.read(folder), load_trained(folder)
    adopted = Adopted(
        WEIGHTS, model.sha256, "nucbench", len(trained.method.state_dict()), (), model.licence, f"model {model.name}"
    )
    if (folder / TRAINED_IMAGES).is_file():
        shutil.copyfile(folder / TRAINED_IMAGES, store.trained_images_file)
    method = trained.method.cpu()
    write_adopted(store, store.spec(), method, adopted, trained.params, trained.magnification)


__all__ = ["evaluate_trained", "score_run"]
