"""Outlines and boxes against OpenCV and SciPy."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import find_objects

from datamodules.synthetic.images import generate
from postproc.pixels.outlines import bounding_boxes, outlines


def plain_outlines(labels: np.ndarray, count: int) -> list[list[list[list[int]]]]:
    """All longest external contours of each label."""
    found = []
    for label in range(1, count + 1):
        parts, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        longest = max((len(part) for part in parts), default=0)
        found.append([part[:, 0].tolist() for part in parts if len(part) == longest])
    return found


def check(labels: np.ndarray, count: int) -> None:
    ours, plain = outlines(labels, count), plain_outlines(labels, count)
    assert len(ours) == count
    for outline, choices in zip(ours, plain, strict=True):
        assert outline.dtype == np.int32
        assert outline.tolist() in (choices or [[]])
    boxes = [(0, 0, 0, 0) if b is None else (b[0].start, b[1].start, b[0].stop, b[1].stop)
             for b in find_objects(labels, max_label=count)]  # fmt: skip
    assert list(map(tuple, bounding_boxes(labels, count).tolist())) == boxes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 14), st.integers(1, 4), st.floats(0.1, 0.9))
def test_outlines_are_those_of_opencv(seed: int, height: int, width: int, count: int, filled: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, count + 1, (height, width)) * (rng.random((height, width)) < filled)
    check(labels.astype(np.int32), count)


def test_nuclei_of_an_image() -> None:
    _, truth = generate((200, 180), np.random.default_rng(0))
    assert truth.labels is not None
    check(truth.labels, truth.count)


def test_an_empty_map_has_no_outlines() -> None:
    assert outlines(np.zeros((5, 6), np.int32), 0) == []
    assert [len(o) for o in outlines(np.zeros((5, 6), np.int32), 2)] == [0, 0]
    assert bounding_boxes(np.zeros((0, 4), np.int32), 1).tolist() == [[0, 0, 0, 0]]
