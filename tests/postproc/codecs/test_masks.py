from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchvision.ops import nms

from benchmark.forward.maps import windows
from postproc.codecs.masks import SMALLEST, UNTYPED, MaskCodec, MaskParams, MaskStitcher, largest_parts, suppress
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel
from postproc.windows import Geometry, Window

MANY = 150
GEOMETRY = Geometry(multiple=32, context=64, minimum=64)


def ellipses(shape: tuple[int, int], count: int, seed: int = 0, radius: tuple[float, float] = (5, 14)) -> Instances:
    """Ellipses of three types that may touch but not overlap; those at the border are cut by it."""
    rng = np.random.default_rng(seed)
    reach = int(radius[1]) + 1
    canvas = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach), np.int32)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    found = 0
    while found < count:
        top, left = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        a, b = rng.uniform(*radius, 2)
        angle = rng.uniform(0, np.pi)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        inside = (u / a) ** 2 + (v / b) ** 2 < 1
        place = canvas[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
        if not place[inside].any():
            found += 1
            place[inside] = found
    labels = np.ascontiguousarray(canvas[reach:-reach, reach:-reach])
    return Instances(shape, labels=labels, types=rng.integers(1, 4, found).astype(np.int64))


def matches(true: np.ndarray, predicted: np.ndarray) -> tuple[float, list[tuple[int, int]]]:
    """Panoptic quality and the matched pairs of ids, by their definition."""
    pairs, quality = [], 0.0
    for k in range(1, int(true.max()) + 1):
        mine = true == k
        ids, shared = np.unique(predicted[mine], return_counts=True)
        for other, overlap in zip(ids, shared, strict=True):
            union = mine.sum() + (predicted == other).sum() - overlap
            if other and overlap / union > 0.5:
                pairs.append((k, int(other)))
                quality += overlap / union
    return 2 * quality / max(int(true.max()) + int(predicted.max()), 1), pairs


def detection(
    shape: tuple[int, int], *rows: tuple[tuple[float, float, float, float], float, int]
) -> dict[str, np.ndarray]:
    """Maps of detections (box, score, label) whose masks fill their boxes."""
    return {
        "boxes": np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        "scores": np.array([row[1] for row in rows], np.float32),
        "labels": np.array([row[2] for row in rows], np.int64),
        "masks": np.ones((len(rows), 28, 28), np.float16),
        "shape": np.array(shape, np.int64),
    }


# ---- encoding ----


def test_encode_gives_tight_boxes_types_and_masks() -> None:
    truth = ellipses((90, 120), 12)
    before = truth.labels.copy()
    targets = MaskCodec(3).encode(truth)
    assert {name: value.dtype for name, value in targets.items()} == {
        "boxes": np.float32,
        "labels": np.int64,
        "masks": np.uint8,
    }
    assert targets["masks"].shape == (truth.count, 90, 120)
    assert np.array_equal(targets["labels"], truth.types)
    for k in range(truth.count):
        rows, columns = np.nonzero(truth.labels == k + 1)
        assert targets["boxes"][k].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.array_equal(targets["masks"][k], truth.labels == k + 1)
    assert np.array_equal(truth.labels, before)


def test_encode_leaves_out_what_is_too_small_and_takes_an_empty_crop() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[0, : SMALLEST - 1] = 1
    labels[10, :SMALLEST] = 2
    targets = MaskCodec().encode(Instances((20, 30), labels=labels))
    assert targets["boxes"].tolist() == [[0, 10, SMALLEST, 11]]
    empty = MaskCodec().encode(Instances((20, 30), labels=np.zeros((20, 30), np.int32)))
    assert [empty[name].shape for name in ("boxes", "labels", "masks")] == [(0, 4), (0,), (0, 20, 30)]
    nothing = MaskCodec().decode(MaskCodec().perfect(empty), MaskParams())
    assert nothing.shape == (20, 30)
    assert nothing.count == 0


def test_labels_are_one_without_types_and_untyped_nuclei_are_marked() -> None:
    truth = ellipses((60, 60), 4)
    truth.types[1] = 0
    assert MaskCodec().encode(truth)["labels"].tolist() == [1] * 4
    targets = MaskCodec(3).encode(truth)
    assert targets["labels"][1] == UNTYPED
    decoded = MaskCodec(3).decode(MaskCodec(3).perfect(targets), MaskParams())
    assert np.array_equal(decoded.types, truth.types)


def test_encode_names_what_the_annotation_lacks() -> None:
    with pytest.raises(DataError, match="outlines"):
        MaskCodec().encode(Instances((8, 8), points=np.zeros((1, 2), np.float32)))
    untyped = Instances((60, 60), labels=ellipses((60, 60), 3).labels)
    with pytest.raises(DataError, match="types"):
        MaskCodec(3).encode(untyped)


# ---- round trip ----


@pytest.mark.parametrize(("shape", "count"), [((128, 128), 25), ((301, 157), 60)])
def test_round_trip_of_ellipses(shape: tuple[int, int], count: int) -> None:
    truth = ellipses(shape, count)
    codec: MaskCodec = pickle.loads(pickle.dumps(MaskCodec(3)))
    decoded = codec.decode(codec.perfect(codec.encode(truth)), codec.defaults())
    quality, pairs = matches(truth.labels, decoded.labels)
    assert quality >= 0.95
    assert decoded.types is not None
    assert all(truth.types[k - 1] == decoded.types[p - 1] for k, p in pairs)
    assert np.array_equal(decoded.scores, np.ones(decoded.count, np.float32))


@pytest.mark.real_data
@pytest.mark.parametrize("file", ["kumar/train/Labels/TCGA-50-5931-01Z-00-DX1.mat", "consep/Train/Labels/train_1.mat"])
def test_round_trip_of_real_annotation(data_root: Path, file: str) -> None:
    labels, _, _ = relabel(scipy.io.loadmat(data_root / file)["inst_map"].astype(np.int64)[:400, :400])
    codec = MaskCodec()
    decoded = codec.decode(codec.perfect(codec.encode(Instances((400, 400), labels=labels))), codec.defaults())
    assert labels.max() > 40
    assert matches(labels, decoded.labels)[0] >= 0.95


# ---- decoding ----


def test_confidence_is_inclusive_and_types_and_scores_follow_their_nucleus() -> None:
    maps = detection((50, 50), ((0, 0, 9, 9), 0.5, 2), ((20, 20, 30, 30), 0.9, 3), ((40, 40, 50, 50), 0.49, 1))
    decoded = MaskCodec(3).decode(maps, MaskParams(confidence=0.5))
    assert decoded.count == 2
    for (y, x), type_, score in (((4, 4), 2, 0.5), ((25, 25), 3, 0.9)):
        row = decoded.labels[y, x] - 1
        assert (decoded.types[row], decoded.scores[row]) == (type_, np.float32(score))
    assert MaskCodec().decode(maps, MaskParams(confidence=0.4)).count == 3
    assert MaskCodec().decode(maps, MaskParams()).types is None


def test_overlap_drops_the_weaker_of_two_whatever_its_type() -> None:
    maps = detection((40, 40), ((0, 0, 20, 20), 0.6, 1), ((0, 5, 20, 25), 0.8, 2))  # IoU 0.6
    one = MaskCodec(2).decode(maps, MaskParams(overlap=0.5))
    assert (one.count, one.types.tolist()) == (1, [2])
    two = MaskCodec(2).decode(maps, MaskParams(overlap=0.7))
    assert two.types.tolist() == [2, 1]
    assert (two.labels[10] == 1)[:20].all(), "shared pixels belong to the more certain"
    assert (two.labels[:5, :20] == 2).all()


def test_a_nucleus_keeps_its_largest_part() -> None:
    maps = detection((30, 60), ((0, 5, 50, 15), 0.7, 1), ((15, 0, 22, 30), 0.9, 1))  # a bar across a bar
    decoded = MaskCodec().decode(maps, MaskParams())
    assert decoded.count == 2
    assert (decoded.labels[5:15, 22:50] == 2).all()
    assert not decoded.labels[5:15, :15].any()


def test_masks_cover_the_pixels_whose_centres_they_cover() -> None:
    maps = detection((20, 20), ((2.4, 3.6, 8.5, 9.4), 1.0, 1))
    assert np.argwhere(MaskCodec().decode(maps, MaskParams()).labels).min(0).tolist() == [4, 2]
    assert np.argwhere(MaskCodec().decode(maps, MaskParams()).labels).max(0).tolist() == [8, 7]
    maps = detection((20, 20), ((-6, -4, 6, 8), 1.0, 1))
    maps["masks"][:, :, 14:] = 0  # the right half, which is all that lies in the image
    assert MaskCodec().decode(maps, MaskParams()).count == 0
    maps["masks"] = 1 - maps["masks"]
    assert np.argwhere(MaskCodec().decode(maps, MaskParams()).labels).max(0).tolist() == [7, 5]


@pytest.mark.parametrize("box", [(3.3, 2.1, 61.7, 44.9), (10.0, 12.0, 19.0, 26.5)])
def test_pasting_interpolates_like_grid_sample(box: tuple[float, float, float, float]) -> None:
    grid = np.mgrid[:14, :14] - 6.5
    mask = (1 / (1 + np.exp(np.hypot(grid[0] * 1.2, grid[1] * 0.9) - 5))).astype(np.float32)
    maps = detection((50, 64), (box, 1.0, 1)) | {"masks": mask[None]}
    labels = MaskCodec().decode(maps, MaskParams()).labels
    x, y = (
        (np.arange(64) + 0.5 - box[0]) / (box[2] - box[0]),
        (np.arange(50) + 0.5 - box[1]) / (box[3] - box[1]),
    )
    place = torch.tensor(np.stack(np.broadcast_arrays(x[None] * 2 - 1, y[:, None] * 2 - 1), -1), dtype=torch.float32)
    sampled = F.grid_sample(
        torch.from_numpy(mask)[None, None], place[None], padding_mode="border", align_corners=False
    )[0, 0].numpy()
    inside = ((x >= 0) & (x < 1))[None] & ((y >= 0) & (y < 1))[:, None]
    sure = np.abs(sampled - 0.5) > 1e-4
    assert np.array_equal((labels > 0)[sure], ((sampled >= 0.5) & inside)[sure])
    assert labels.any()


def test_detections_that_are_no_numbers_are_dropped() -> None:
    maps = detection((20, 20), ((0, 0, 9, 9), np.nan, 1), ((0, np.nan, 9, 9), 0.9, 1), ((9, 9, 9, 15), 0.9, 1))
    assert MaskCodec().decode(maps, MaskParams()).count == 0


@given(seed=st.integers(0, 10_000), overlap=st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_suppression_is_non_maximum_suppression(seed: int, overlap: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (30, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 30, (30, 2))], 1).astype(np.float32)
    kept = suppress(boxes, np.arange(30), overlap)
    scores = torch.arange(30, 0, -1, dtype=torch.float32)
    assert np.flatnonzero(kept).tolist() == sorted(nms(torch.from_numpy(boxes), scores, overlap).tolist())
    assert suppress(boxes, np.zeros(30, np.int64), overlap).all(), "one group never suppresses itself"


def test_largest_parts_agree_with_one_nucleus_at_a_time() -> None:
    labels = np.random.default_rng(3).integers(0, 4, (40, 40)).astype(np.int32)
    expected = np.zeros_like(labels)
    for k in (1, 2, 3):
        parts, _ = ndimage.label(labels == k, np.ones((3, 3)))
        area = np.bincount(parts.ravel())[1:]
        assert (area == area.max()).sum() == 1, "the example must not have two largest parts"
        expected[parts == area.argmax() + 1] = k
    assert np.array_equal(largest_parts(labels, 1), expected)
    assert not largest_parts(labels, 10_000).any()


def test_decoding_700_nuclei_is_fast() -> None:
    grid = [(x * 37.0, y * 37.0) for x in range(27) for y in range(26)]
    maps = detection((1000, 1000), *(((x, y, x + 36, y + 36), 0.9, 1) for x, y in grid for _ in range(3)))
    MaskCodec().decode(maps, MaskParams())  # compiles, or loads what was compiled
    start = time.process_time()
    decoded = MaskCodec().decode(maps, MaskParams())
    assert decoded.count == len(grid)
    assert time.process_time() - start < 0.5


# ---- stitching ----


def seen(window: Window, boxes: np.ndarray, shape: tuple[int, int], jitter: float, rng: np.random.Generator) -> dict:
    """What a detector says about a tile: boxes cut by its border; `labels` tell which nucleus it was."""
    offset = np.array([window.left, window.top] * 2)
    limit = np.array([window.width, window.height] * 2)
    local = np.clip(boxes - offset + rng.uniform(-jitter, jitter, boxes.shape), 0, limit)
    visible = np.flatnonzero(((local[:, 2:] - local[:, :2]) > 2).all(1))
    rows = [(tuple(local[k]), float(rng.uniform(0.6, 1)), int(k)) for k in visible]
    return detection((window.height, window.width), *rows)


def stitched(boxes: np.ndarray, shape: tuple[int, int], tile: int, jitter: float, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    stitcher = MaskStitcher(shape)
    tiles = list(windows(shape, GEOMETRY, tile))
    assert len(tiles) > 1
    for window in tiles:
        stitcher.add(window, seen(window, boxes, shape, jitter, rng))
    return stitcher.finish()


@pytest.mark.parametrize("jitter", [0.0, 1.5])
@pytest.mark.parametrize(("shape", "tile"), [((500, 430), 224), ((300, 700), 256)])
def test_many_nuclei_are_each_found_once(shape: tuple[int, int], tile: int, jitter: float) -> None:
    targets = MaskCodec().encode(ellipses(shape, 120, seed=1, radius=(6, 22)))
    found = stitched(targets["boxes"], shape, tile, jitter)
    assert sorted(found["labels"].tolist()) == list(range(len(targets["boxes"])))
    assert found["shape"].tolist() == list(shape)
    error = np.abs(found["boxes"] - targets["boxes"][found["labels"]]).max()
    assert error <= jitter + 1e-3


@given(
    x=st.floats(0, 400),
    y=st.floats(0, 400),
    width=st.floats(6, 110),
    height=st.floats(6, 110),
    jitter=st.floats(0, 0.12),
    seed=st.integers(0, 100),
)
@settings(max_examples=MANY, deadline=None)
def test_a_nucleus_anywhere_is_found_once(
    x: float, y: float, width: float, height: float, jitter: float, seed: int
) -> None:
    box = np.clip([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]], 0, 400)
    side = float((box[:, 2:] - box[:, :2]).min())
    if side < 6:
        return
    error = min(jitter * side, 1.5)  # tiles disagree less about a small nucleus
    found = stitched(box, (400, 400), 256, error, seed)
    assert len(found["boxes"]) == 1
    assert np.abs(found["boxes"] - box).max() <= error + 1e-3


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_nuclei_on_every_seam_are_found_once(jitter: float) -> None:
    shape = (480, 480)
    seams = sorted({window.keep[0] for window in windows(shape, GEOMETRY, 224)} - {0})
    assert seams
    centres = np.array([(x, y) for x in seams for y in seams] + [(s, 30) for s in seams] + [(30, s) for s in seams])
    boxes = np.concatenate([centres - 11, centres + 11], 1).astype(np.float32)
    for seed in range(10):
        found = stitched(boxes, shape, 224, jitter, seed)
        assert sorted(found["labels"].tolist()) == list(range(len(boxes)))


def test_of_a_nucleus_larger_than_the_overlap_no_fragment_is_kept() -> None:
    shape = (224, 400)
    seam = next(window.keep[1] for window in windows(shape, GEOMETRY, 224) if window.keep[1])
    large, small = [seam - 80, 100, seam + 80, 140], [seam - 60, 20, seam + 60, 50]
    found = stitched(np.array([large, small], np.float32), shape, 224, 0.0)
    assert found["labels"].tolist() == [1]


def test_stitched_masks_decode_to_the_map_of_a_single_pass() -> None:
    truth = ellipses((420, 390), 90, seed=4, radius=(6, 15))
    codec = MaskCodec(3)
    whole = codec.decode(codec.perfect(codec.encode(truth)), codec.defaults())
    stitcher = MaskStitcher(truth.shape)
    for window in windows(truth.shape, GEOMETRY, 224):
        cut = truth.labels[window.top : window.top + window.height, window.left : window.left + window.width]
        labels, types, _ = relabel(cut, truth.types)
        stitcher.add(window, codec.perfect(codec.encode(Instances(labels.shape, labels=labels, types=types))))
    tiled = codec.decode(stitcher.finish(), codec.defaults())
    assert tiled.count == whole.count
    quality, pairs = matches(whole.labels, tiled.labels)
    assert quality > 0.999  # pixels that touching masks share go to either: all scores are 1
    assert all(whole.types[k - 1] == tiled.types[p - 1] for k, p in pairs)


def test_mirrored_surroundings_add_no_nuclei() -> None:
    stitcher = MaskStitcher((100, 100))
    rows = [
        ((30, 30, 50, 50), 0.9, 0),  # inside
        ((92, 40, 107, 55), 0.9, 1),  # cut by the image's border, seen together with its mirror image
        ((101, 70, 115, 84), 0.9, 2),  # a mirror image alone
        ((99.2, 20, 112, 33), 0.9, 3),  # a mirror image whose box leaks into the picture
    ]
    stitcher.add(Window(0, 0, 128, 128, keep=(0, 0, 100, 100)), detection((128, 128), *rows))
    found = stitcher.finish()
    assert sorted(found["labels"].tolist()) == [0, 1]
    decoded = MaskCodec().decode(found, MaskParams())
    assert decoded.shape == (100, 100)
    assert decoded.count == 2


def test_tiles_without_nuclei_give_an_empty_image() -> None:
    stitcher = MaskStitcher((400, 300))
    for window in windows((400, 300), GEOMETRY, 224):
        stitcher.add(window, detection((window.height, window.width)))
    assert MaskCodec(2).decode(stitcher.finish(), MaskParams()).count == 0
