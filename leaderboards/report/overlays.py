"""Crops of evaluated images with the outlines of annotated and predicted nuclei, as small files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.results.pictures import densest_window
from leaderboards.plots.predictions import Annotated, missing_predictions, read_annotated, read_prediction
from leaderboards.report.outlines import Layer, layer_of
from leaderboards.report.scores import LABELS, Evaluation
from leaderboards.report.slugs import slug
from leaderboards.statistics.entries import Entry
from postproc.errors import NucbenchError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

SIDE = 400
"""Side of the crop of an image, in pixels."""

IMAGES = 3
"""Images of a set to show: the hardest, the typical and the easiest one."""

QUALITY = 82
"""Quality of the WebP files."""

KINDS = ("hardest", "typical", "easiest")


@dataclass(frozen=True)
class Picture:
    """A crop of an image with its annotation.

    Attributes:
        image: Image id.
        kind: Why it was chosen, one of `KINDS`; several are joined by ``and``.
        width: Width of the crop, in pixels.
        height: Height of the crop, in pixels.
        left: Left edge in the image, in pixels.
        top: Top edge in the image, in pixels.
        file: The picture, from the root of the report.
        truth: The annotated nuclei.
    """

    image: str
    kind: str
    width: int
    height: int
    left: int
    top: int
    file: str
    truth: Layer


@dataclass(frozen=True)
class Overlay:
    """A picture with the nuclei of one evaluation.

    Attributes:
        evaluation: The evaluation.
        picture: The picture.
        predicted: The nuclei.
        score: Score of the whole image as text, ``PQ 0.512``.
        value: The score.
    """

    evaluation: Evaluation
    picture: Picture
    predicted: Layer
    score: str
    value: float


def draw_overlays(
    evaluations: Sequence[Evaluation], data: Path, out: Path
) -> tuple[dict[str, list[Overlay]], list[str]]:
    """Write the pictures of every evaluation whose predictions and images are available.

    Args:
        evaluations: The evaluations.
        data: Folder with one folder per dataset.
        out: Root of the report.

    Returns:
        The overlays by page of their evaluation, and one line per set or evaluation without any, with the reason.
    """
    found: dict[str, list[Overlay]] = {}
    left_out: list[str] = []
    sets: dict[str, list[Evaluation]] = {}
    for each in evaluations:
        sets.setdefault(each.target, []).append(each)
    types: dict[str, tuple[str, ...]] = {}
    for each in evaluations:
        types[each.dataset] = max(types.get(each.dataset, ()), each.types, key=len)
    for target, members in sorted(sets.items()):
        chosen = choose_images(members)
        usable = []
        for each in members:
            reason = _unreadable(each, chosen)
            usable += [] if reason else [each]
            left_out += [f"{each.title} on {target} ({each.run.run_id}): {reason}"] if reason else []
        if not usable:
            continue
        try:
            samples = read_annotated(data, [f"{members[0].dataset}/{members[0].split}/{image}" for image in chosen])
        except NucbenchError as error:
            left_out.append(f"all of {target}: {error}".replace(f"{data}/", ""))
            continue
        by_id = {name.split("/", 2)[2]: sample for name, sample in samples.items()}
        for image, kind in chosen.items():
            if image not in by_id:
                left_out.append(f"{image} of {target}: not an image of the dataset")
                continue
            picture, window = _picture(image, kind, by_id[image], members[0].dataset, types[members[0].dataset], out)
            for overlay in _of_image(picture, window, by_id[image], usable, out, left_out):
                found.setdefault(overlay.evaluation.page, []).append(overlay)
    return found, left_out


def choose_images(evaluations: Iterable[Evaluation]) -> dict[str, str]:
    """Return the images of a set to show, each with its role: hardest, typical, easiest.

    Images are ranked by the mean score over all evaluations, so that all methods are shown on the same images.
    """
    scored = [each for each in evaluations if each.ranked_by]
    if not scored:
        return {}
    columns = [each.frame.set_index("image")[each.ranked_by] for each in scored]
    means = pd.concat(columns, axis=1).mean(axis=1).round(9).dropna().sort_index().sort_values(kind="stable")
    if len(means) < 2:
        return {str(image): "the only one" for image in means.index}
    at = (0, (len(means) - 1) // 2, len(means) - 1)
    found: dict[str, str] = {}
    for place, kind in zip(at, KINDS, strict=True):
        image = str(means.index[place])
        found[image] = f"{found[image]} and {kind}" if image in found else kind
    return found


def _entry(evaluation: Evaluation, images: Iterable[str], folder: Path) -> Entry:
    """Return a reader of the predictions in one folder of a run."""
    names = [f"{evaluation.dataset}/{evaluation.split}/{image}" for image in images]
    return Entry(evaluation.title, "", pd.DataFrame(index=names), 1, (folder.name,), evaluation.variant)


def _unreadable(evaluation: Evaluation, chosen: Mapping[str, str]) -> str:
    """Return why no nuclei of an evaluation can be shown; empty if those of any image can."""
    if not chosen or not evaluation.ranked_by:
        return "no score to rank its images"
    if _folder(evaluation, chosen) is not None:
        return ""
    return "no predictions (only the folder of runs has them, published scores do not)"


def _folder(evaluation: Evaluation, images: Iterable[str]) -> Path | None:
    """Return the first folder of a run with predictions of the images that it was scored on."""
    own = set(evaluation.frame["image"]) & set(images)
    if not own:
        return None
    for folder in evaluation.run.folders:
        if not missing_predictions(folder.parent, _entry(evaluation, sorted(own), folder)):
            return folder
    return None


def _picture(
    image: str, kind: str, sample: Annotated, dataset: str, types: Sequence[str], out: Path
) -> tuple[Picture, tuple[slice, slice]]:
    """Write the most crowded crop of an image and its annotation, once for all splits with this image."""
    window = densest_window(sample.truth, SIDE)
    shown = np.ascontiguousarray(sample.image[window])
    folder = f"overlays/{slug(f'{dataset}/{image}')}"
    _write(out / folder / "image.webp", _webp(shown))
    truth = layer_of(part_of(sample.truth, window), types, f"{folder}/annotation.svg", predicted=False)
    _write(out / truth.file, truth.svg.encode())
    height, width = shown.shape[:2]
    picture = Picture(image, kind, width, height, window[1].start, window[0].start, f"{folder}/image.webp", truth)
    return picture, window


def _of_image(
    picture: Picture,
    window: tuple[slice, slice],
    sample: Annotated,
    evaluations: Sequence[Evaluation],
    out: Path,
    left_out: list[str],
) -> Iterator[Overlay]:
    """Write the nuclei of each evaluation of an image."""
    for each in evaluations:
        scores = each.frame.set_index("image")[each.ranked_by]
        if picture.image not in scores.index:
            continue
        where = f"{each.title} on {picture.image} of {each.target}"
        name = f"{each.dataset}/{each.split}/{picture.image}"
        folder = _folder(each, [picture.image])
        if folder is None:
            left_out.append(f"{where}: prediction missing")
            continue
        try:
            nuclei = read_prediction(folder.parent, _entry(each, [], folder), name)
        except NucbenchError as error:
            left_out.append(f"{where}: {error}".replace(f"{folder.parent}/", ""))
            continue
        if nuclei.shape != sample.truth.shape:
            left_out.append(f"{where}: the prediction has a different size from the image")
            continue
        file = f"{Path(picture.file).parent.as_posix()}/{slug(f'{each.run.run_id}/{each.variant}')}.svg"
        layer = layer_of(part_of(nuclei, window), each.types, file, predicted=True)
        _write(out / file, layer.svg.encode())
        value = float(scores[picture.image])
        text = f"{LABELS.get(each.ranked_by, each.ranked_by)} {value:.3f}" if np.isfinite(value) else ""
        yield Overlay(each, picture, layer, text, value)


def part_of(nuclei: Instances, window: tuple[slice, slice]) -> Instances:
    """Return the nuclei within a window, in its pixel coordinates."""
    rows, columns = window
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if nuclei.labels is not None:
        labels, types, _ = relabel(np.ascontiguousarray(nuclei.labels[window]), nuclei.types)
        return Instances(shape, labels=labels, types=types)
    points = nuclei.centroids() - np.array([columns.start, rows.start], np.float32)
    inside = (points >= 0).all(axis=1) & (points < np.array([shape[1], shape[0]])).all(axis=1)
    return Instances(shape, points=points[inside], types=None if nuclei.types is None else nuclei.types[inside])


def _webp(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


__all__ = ["IMAGES", "KINDS", "SIDE", "Overlay", "Picture", "choose_images", "draw_overlays", "part_of"]
