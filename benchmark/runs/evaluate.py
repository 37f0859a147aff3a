"""Score stored predictions, image by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.host.files import read_json, write_json
from benchmark.host.progress import track
from benchmark.host.stages import stage
from benchmark.metrics.image import score_image
from benchmark.metrics.pooling import summarise
from benchmark.metrics.tissues import TISSUE
from benchmark.results.store import RunStore, candidates_file, read_instances, write_scores
from benchmark.runs.contamination import Overlap
from datamodules.drawing.labelled import has_nuclei
from datamodules.sources import ImageSet
from postproc.codec import Params
from postproc.errors import DataError
from postproc.instances import Instances


@dataclass(frozen=True)
class Decoding:
    """A post-processing variant to score.

    Attributes:
        key: Key of the variant.
        title: Row name in tables.
        params: Post-processing parameters, stored with the scores.
    """

    key: str
    title: str
    params: Params


def evaluate(
    store: RunStore,
    images: ImageSet,
    variant: Decoding,
    *,
    typed: bool,
    overlap: Overlap | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Score one variant on a set of images and store one row per image.

    Args:
        store: Store of the run, with the predictions.
        images: Images to score.
        variant: Variant that produced the predictions.
        typed: Whether to score types (if the method predicts the types of this dataset).
        overlap: Images that are or resemble training images, stored with the scores; None = none of them.
        progress: Show a progress bar.

    Returns:
        The summary over images.

    Raises:
        DataError: If a prediction is missing or misshapen.
    """
    data = images.data
    folder = store.evaluation(str(images), variant.key)
    file = folder / "scores.csv"
    marks = _marks(overlap or Overlap())
    if (folder / "evaluation.json").exists() and file.exists():
        stored = read_json(folder / "evaluation.json")
        if overlap is not None and stored != {**stored, **marks}:  # of a version that compared less
            write_json(folder / "evaluation.json", {**stored, **marks})
        return summarise(pd.read_csv(file, dtype={"image": str}))
    card = data.card
    types = len(card.types) if typed else 0
    rows: list[dict[str, Any]] = []
    for record in track(images.records(), f"scoring {images} ({variant.title})", progress):
        with stage("reading annotation"):
            sample = data.read(record)
        if not has_nuclei(sample.truth):
            continue  # only regions are annotated: predictions are neither right nor wrong
        path = store.prediction_file(card.name, variant.key, record.image_id)
        with stage("scoring"):
            found = score_image(
                sample.truth,
                read_instances(path),
                radius=card.radius,
                types=types,
                candidates=_candidates(candidates_file(path), sample.truth),
                count_border=card.count_border,
            )
        tissue = {TISSUE: sample.tissue} if sample.tissue else {}
        rows.append({"image": record.image_id, **tissue, **found})
    if not rows:
        raise DataError(f"no image of {images} has annotated nuclei to score against; choose another split")
    scores = pd.DataFrame(rows)
    write_scores(file, scores)
    write_json(
        folder / "evaluation.json",
        {
            "dataset": card.name,
            "split": images.split,
            "variant": variant.key,
            "title": variant.title,
            "params": dataclasses.asdict(variant.params),
            "images": len(rows),
            **marks,
            "synthetic": data.is_stand_in,
            "types": list(card.types[:types]),
            "radius": card.radius,
        },
    )
    return summarise(scores)


def _marks(overlap: Overlap) -> dict[str, Any]:
    """Return what an evaluation stores about training images among its images."""
    return {
        "seen": len(overlap.seen),
        "seen_images": dict(overlap.seen),
        "similar_images": dict(overlap.similar),
    }


def stored_overlap(store: RunStore, images: ImageSet, variants: Iterable[str]) -> Overlap | None:
    """Return the overlap that the stored evaluations of some variants state; None unless all state one."""
    found: Overlap | None = None
    for variant in variants:
        file = store.evaluation(str(images), variant) / "evaluation.json"
        stored = read_json(file) if file.exists() else {}
        if "seen_images" not in stored or "similar_images" not in stored:
            return None
        found = Overlap(stored["seen_images"], stored["similar_images"])
    return found


def _candidates(path: Path, truth: Instances) -> Instances | None:
    """Read the detection candidates of an image, if they exist and the annotation allows scoring them."""
    if truth.labels is not None or not path.exists():
        return None
    found = read_instances(path)
    return found if truth.types is None or found.types is not None else None
