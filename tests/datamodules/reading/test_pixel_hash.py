"""Hashes of decoded images: exact ones follow the pixels, those of the appearance survive re-encoding and rescaling."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.registry import dataset_class
from benchmark.results.trained_images import TrainedImages
from datamodules.reading.pixel_hash import CLOSE, ImageHash, hash_image
from datamodules.synthetic.images import generate
from postproc.errors import DataError


def picture(seed: int, side: int = 160) -> NDArray[np.uint8]:
    return generate((side, side), np.random.default_rng(seed), density=1e-3)[0]


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def scaled(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=how), np.uint8)


COPIES = {
    "jpeg95": lambda image: jpeg(image, 95),
    "jpeg75": lambda image: jpeg(image, 75),
    "jpeg30": lambda image: jpeg(image, 30),
    "half": lambda image: scaled(image, 0.5),
    "quarter": lambda image: scaled(image, 0.25),
    "double": lambda image: scaled(image, 2),
    "half-jpeg": lambda image: jpeg(scaled(image, 0.5), 75),
}


def distance(a: ImageHash, b: ImageHash) -> int:
    assert a.appearance is not None
    assert b.appearance is not None
    return (a.appearance ^ b.appearance).bit_count()


def trained(*images: NDArray[np.uint8]) -> TrainedImages:
    return TrainedImages({"mine.train": {str(i): hash_image(image) for i, image in enumerate(images)}})


def test_the_exact_hash_follows_shape_and_values() -> None:
    image = picture(0)
    assert hash_image(image) == hash_image(np.asfortranarray(image))
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    assert hash_image(changed).pixels != hash_image(image).pixels
    long = np.zeros((2, 8, 3), np.uint8)
    assert hash_image(long).pixels != hash_image(long.reshape(4, 4, 3)).pixels


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_recognised(copy: str) -> None:
    known = trained(picture(1), picture(2))
    found = known.match(hash_image(COPIES[copy](picture(2))))
    assert found == ("mine.train/1", False)


def test_the_same_pixels_are_an_exact_match() -> None:
    assert trained(picture(1), picture(2)).match(hash_image(picture(2))) == ("mine.train/1", True)


def test_other_images_and_other_forms_do_not_match() -> None:
    known = trained(picture(1))
    assert known.match(hash_image(picture(2))) is None
    assert known.match(hash_image(cv2.resize(picture(1), (160, 120)).astype(np.uint8))) is None


def test_images_of_one_colour_match_only_exactly() -> None:
    known = trained(np.full((64, 64, 3), 240, np.uint8))
    assert known.match(hash_image(np.full((64, 64, 3), 241, np.uint8))) is None
    assert known.match(hash_image(np.full((64, 64, 3), 240, np.uint8))) == ("mine.train/0", True)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    known = trained(picture(1), np.zeros((8, 4, 3), np.uint8))
    known.write(tmp_path / "trained_images.json")
    assert TrainedImages.read(tmp_path / "trained_images.json") == known


@pytest.mark.parametrize(
    "content",
    ["[]", '{"format": 1}', '{"format": 2, "sets": {}}', '{"format": 1, "sets": {"a": {"b": "ff - 1x1"}}}', "{"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "trained_images.json").write_text(content)
    with pytest.raises(DataError, match=r"trained_images\.json"):
        TrainedImages.read(tmp_path / "trained_images.json")


@pytest.mark.real_data
@pytest.mark.slow
def test_real_images_match_their_copies_and_no_others() -> None:
    hashes, copies = [], []
    for name in ("kumar", "monuseg", "tnbc", "consep", "cpm15"):
        data = dataset_class(name)(Path(os.environ["NUCBENCH_DATA"]) / name)
        for record in data.records:
            image = data.read_image(record).image
            hashes.append(hash_image(image))
            if record.image_id.endswith(("1", "5")):
                copies += [distance(hashes[-1], hash_image(copy(image))) for copy in COPIES.values()]
    assert max(copies) <= CLOSE
    pairs = [(a, b) for a, b in itertools.combinations(hashes, 2) if a.pixels != b.pixels]
    assert min(distance(a, b) for a, b in pairs) > CLOSE
