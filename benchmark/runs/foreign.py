"""Score external predictions for the same tables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.host.environment import environment
from benchmark.host.files import write_json
from benchmark.host.machine import Machine
from benchmark.host.outputs import check_outputs
from benchmark.registry import METHODS, dataset_class
from benchmark.results.record import check_texts
from benchmark.results.scoring import Kinds, find_label_maps, read_label_map
from benchmark.results.spec import FORMAT
from benchmark.results.store import RunStore, write_instances
from benchmark.runs.contamination import KnownImages, hash_named
from benchmark.runs.datasets import open_dataset
from benchmark.runs.evaluate import Decoding, evaluate
from benchmark.runs.result import Result
from benchmark.runs.trained_on import training_sets
from datamodules.reading.outlines import OUTLINE_SUFFIXES, draw, read_outlines
from datamodules.reading.sense import Sense
from datamodules.reading.type_names import parse_types, type_numbers
from datamodules.sources import ImageSet
from postproc.codec import Params
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances


def evaluate_foreign(
    predictions: Path,
    dataset: str,
    split: str,
    method: str,
    trained_on: str,
    note: str,
    machine: Machine,
    components: bool | None = None,
    types: Sequence[str] = (),
) -> Result:
    """Score a folder of label maps or outlines on a dataset and store the result like a run.

    Images of the split that are images of another, available training set are stored as seen; for the training split of
    the same dataset, splits keep them apart.

    Args:
        predictions: Folder with one label map or file with outlines per image of the split, named by image ID.
        dataset: Registry name.
        split: Split of the dataset.
        method: Row name in tables.
        trained_on: Training set of the method, see `training_sets`.
        note: Source of the predictions.
        machine: Folders of datasets and runs.
        components: What a map is whose ids fall into many parts, see `Sense`.
        types: Counterparts of the types of outlines, each ``FOREIGN=TYPE``, see `parse_types`.

    Raises:
        ConfigError: If the row name is empty, the training set is not named validly, or the folder is missing.
        DataError: If a prediction is missing or differs in size from its image.
    """
    check_texts(note=note)
    slug = re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")
    if not slug:
        raise ConfigError(f"--method {method!r} is not a valid row name")
    dataset_class(dataset)  # an unknown name is not one of --trained-on
    others = [name for name, target in training_sets(trained_on).items() if target.dataset != dataset]
    files = find_label_maps(predictions, outlines=True)
    data = open_dataset(dataset, machine)
    records = data.select(split)
    given = parse_types(types, data.card.types)
    missing = [record.image_id for record in records if record.image_id not in files]
    if missing:
        raise DataError(
            f"{predictions} has no prediction for {len(missing)} of {len(records)} images of {dataset}.{split}: "
            f"{', '.join(missing[:5])}. Files are matched by image ID; extensions: "
            ".mat, .npy, .npz, .png, .tif, .json or .geojson."
        )
    digest = hashlib.sha256()
    for record in records:
        digest.update(files[record.image_id].read_bytes())
    name = slug if slug not in METHODS else f"{slug}-predictions"
    store = RunStore(machine.runs, f"{name}/{trained_on}/paper-s0-{digest.hexdigest()[:8]}")
    stored = [store.prediction_file(dataset, slug, record.image_id) for record in records]
    check_outputs(stored, files.values(), remedy="give another --runs")
    sense, kinds = Sense(components), Kinds()
    with store.lock():
        for record in records:
            truth = data.read(record).truth
            prediction = _read(files[record.image_id], truth.shape, data.card.types, given, sense)
            if prediction.shape != truth.shape:
                raise DataError(
                    f"{files[record.image_id]} is {prediction.shape} px, image {record.image_id} of {dataset} is "
                    f"{truth.shape}"
                )
            kinds.compare(truth, prediction, (record.annotations[0], files[record.image_id]))
            write_instances(store.prediction_file(dataset, slug, record.image_id), prediction)
        sense.tell()
        kinds.tell()
        write_json(store.spec_file, {"format": FORMAT, "predictions": predictions.name, "method": method})
        write_json(store.record_file, _record(store, method, slug, trained_on, note))
        images, variant = ImageSet(data, split), Decoding(slug, method, Params())
        overlap = KnownImages(hashes=hash_named(others, machine)).overlap(images)
        overlap.tell(str(images))
        typed = bool(data.card.types)
        summary = evaluate(store, images, variant, typed=typed, overlap=overlap, progress=machine.progress)
    return Result(store, {(str(images), method): summary})


def _read(
    path: Path, shape: tuple[int, int], types: Sequence[str], given: Mapping[str, int], sense: Sense
) -> Instances:
    """Read a label map, or draw the outlines of a file."""
    if path.suffix.lower() not in OUTLINE_SUFFIXES:
        return read_label_map(path, sense)
    outlines = read_outlines(path)
    return draw(outlines, shape, type_numbers(outlines, types, given))


def _record(store: RunStore, method: str, slug: str, trained_on: str, note: str) -> dict[str, object]:
    return {
        "format": FORMAT,
        "run_id": store.run_id,
        "method": slug,
        "protocol": "paper",
        "seed": 0,
        "train": {"dataset": trained_on, "split": "train"},
        "variants": {slug: method},
        "options": {},
        "overrides": {},
        "training": {},
        "environment": environment(),
        "data": {},
        "source": "predictions",
        "note": note,
    }
