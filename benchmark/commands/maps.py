"""`nucbench plot maps`: run the network of a finished run on images and draw its output maps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.commands.map_panels import panels_of
from benchmark.forward.maps import predict_maps
from benchmark.forward.scaling import decode, rescale
from benchmark.registry import DATASETS, dataset_class
from benchmark.results.run import inference_settings
from benchmark.results.spec import Target
from benchmark.results.store import RunStore
from benchmark.runs.trained import load_run
from leaderboards.plots.maps import MapPanel, MapPicture, draw_maps
from leaderboards.plots.style import Drawn, save, style
from postproc.cells import unshown_frame
from postproc.errors import ConfigError, DataError, unknown_name

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from datamodules.reading.records import Record


def print_maps(
    runs: Sequence[Path], images: Sequence[str], data: Path, out: Path, *, variant: str | None, side: int
) -> None:
    """Draw the maps of images as PNG and SVG, and print each file as it is written.

    Args:
        runs: Run directories.
        images: Images as ``dataset/image``; none = the image with the median score of each run.
        data: Folder with one folder per dataset.
        out: Output folder.
        variant: Post-processing variant of the result; None = the first variant of each run.
        side: Side of the shown crop in pixels.

    Raises:
        ConfigError: If a run is unfinished or has no network, or an image or variant is unknown.
        DataError: If a dataset or weights are missing or cannot be read.
    """
    if side < 1:
        raise ConfigError(f"--side must be 1 px or more, not {side}")
    with style():
        for run in runs:
            for drawn in pictures_of(run, images, data, variant=variant, side=side):
                for path in save(drawn, out):
                    print(path, flush=True)


def pictures_of(run: Path, images: Sequence[str], data: Path, *, variant: str | None, side: int) -> Iterator[Drawn]:
    """Yield a picture of each image; see `print_maps`."""
    store = RunStore.open(run)
    method, params, record = load_run(store)
    if not method.card.trained:
        raise ConfigError(f"{store.path}: {method.card.name} has no network and therefore no maps to draw")
    key = variant or next(iter(params))
    if key not in params:
        raise unknown_name("variant", key, params)
    codec, settings = method.codecs[key], inference_settings(store.spec())
    for module, place in [find_image(name, data) for name in images] or [typical(store, data)]:
        card = module.card
        sample = module.read_image(place) if card.annotation == "none" else module.read(place)
        maps = predict_maps(method, rescale(sample.image, record["magnification"], sample.magnification), settings)
        shape = (sample.image.shape[0], sample.image.shape[1])
        panels = tuple(_fit(panel, shape) for panel in panels_of(method, key, maps, params[key]))
        title = {each.key: each.title for each in method.card.variants}[key]
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{card.name}-{place.image_id}-{method.card.name}-{store.path.name}")
        yield draw_maps(
            MapPicture(
                f"maps-{stem}" + (f"-{key}" if variant else ""),
                f"{method.card.title}, {card.title}: {place.image_id}",
                sample.image,
                None if card.annotation == "none" else sample.truth,
                decode(codec, maps, params[key], shape),
                title,
                panels,
            ),
            side,
        )


def find_image(name: str, data: Path) -> tuple[NucleiDataModule, Record]:
    """Return the dataset and the record of an image named ``dataset/image``.

    Raises:
        ConfigError: If the dataset or image is unknown.
        DataError: If the dataset is missing.
    """
    dataset, _, image_id = name.partition("/")
    if dataset not in DATASETS:
        raise unknown_name("dataset (images are named DATASET/IMAGE)", dataset, DATASETS)
    module = dataset_class(dataset)(data / dataset)
    records = {record.image_id: record for record in module.records}
    if image_id not in records:
        raise unknown_name(f"image of {dataset}", image_id, records)
    return module, records[image_id]


def typical(store: RunStore, data: Path) -> tuple[NucleiDataModule, Record]:
    """Return the image with the median score of a run (the lower one of two).

    The image is from an evaluation on the training dataset if one exists. The score is PQ, else AJI, else the F1 of
    detection.

    Raises:
        ConfigError: If the run was not evaluated.
    """
    files = {file: Target.parse(file.parent.parent.name) for file in store.path.glob("evaluations/*/*/scores.csv")}
    trained = store.spec().dataset
    for file, target in sorted(files.items(), key=lambda each: (each[1].dataset != trained, str(each[0]))):
        scores = unshown_frame(pd.read_csv(file, dtype={"image": str})).set_index("image")
        for column in ("pq", "aji", "f_d", "f1"):
            if column in scores and scores[column].notna().any():
                values = scores[column].dropna().sort_values(kind="stable")
                return find_image(f"{target.dataset}/{values.index[(len(values) - 1) // 2]}", data)
        return find_image(f"{target.dataset}/{scores.index[0]}", data)
    raise ConfigError(f"{store.path} has no scores, so no image can be chosen; name one: --images DATASET/IMAGE")


def _fit(panel: MapPanel, shape: tuple[int, int]) -> MapPanel:
    """Resize a map to the image, if the network saw another magnification."""
    if panel.values.shape == shape:
        return panel
    if min(panel.values.shape) == 0:
        raise DataError(f"the map {panel.title!r} is empty")
    values: NDArray[np.float32] = cv2.resize(panel.values, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return MapPanel(panel.title, values, panel.kind, panel.unit)
