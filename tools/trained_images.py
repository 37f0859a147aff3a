"""Write ``trained_images.json`` into model folders and run directories that lack it, from the datasets on this machine.

python tools/trained_images.py models/published/default --data data

The training sets are those that the folder names. A set counts only if the fingerprint of its images and annotation
(``record.json``, or ``card.md`` of a model folder) is that of the training; otherwise nothing is written and the exit
status is 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmark.host.files import read_json
from benchmark.registry import dataset_class
from benchmark.results.model_folder import CARD, Description, is_model_folder
from benchmark.results.spec import Target
from benchmark.results.store import RunStore
from benchmark.results.trained_images import TRAINED_IMAGES
from benchmark.runs.contamination import hash_sets
from datamodules.sources import ImageSet
from postproc.errors import ConfigError, DataError, NucbenchError


def main() -> int:
    """Write the files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NUCBENCH_DATA", "data")))
    given = parser.parse_args()
    try:
        for folder in given.folders:
            count = write(folder, given.data)
            print(f"{folder / TRAINED_IMAGES}: {count} images")
    except NucbenchError as error:
        print(f"trained_images: {error}", file=sys.stderr)
        return 2
    return 0


def write(folder: Path, root: Path) -> int:
    """Write the file of one folder; return the number of its images.

    Raises:
        ConfigError: If the folder is neither a model folder nor a run directory, or names no training set.
        DataError: If images are missing, or differ from those of the training.
    """
    names, fingerprints = _trained_on(folder)
    if not names:
        raise ConfigError(f"{folder} names no training set")
    sets = [_opened(Target.parse(name, "train"), root) for name in names]
    for images in sets:
        found = [images.data.fingerprint(images.split, annotated=annotated)["sha256"] for annotated in (True, False)]
        if not any(sha256 in fingerprints for sha256 in found):
            raise DataError(
                f"{images} in {images.data.root} is not the set that {folder} was trained on: its sha256 "
                f"{found[0]} is not stated there"
            )
    hashes = hash_sets(sets)
    hashes.write(folder / TRAINED_IMAGES)
    return sum(map(len, hashes.sets.values()))


def _trained_on(folder: Path) -> tuple[list[str], str]:
    """Return the names of the training sets, and the text that states their fingerprints."""
    if is_model_folder(folder):
        return list(Description.read(folder).trained_on), (folder / CARD).read_text(encoding="utf-8")
    store = RunStore.open(folder)
    spec = store.spec()
    record = read_json(store.record_file)
    entries = [record["data"], *record.get("also", ()), *([record["validation"]] if "validation" in record else [])]
    further = [str(spec.validation_set)] if spec.validation_set else []
    return [*map(str, spec.training_sets), *further], " ".join(entry["sha256"] for entry in entries)


def _opened(target: Target, root: Path) -> ImageSet:
    data = dataset_class(target.dataset)(root / target.dataset)
    data.select(target.split)
    return ImageSet(data, target.split)


if __name__ == "__main__":
    sys.exit(main())
