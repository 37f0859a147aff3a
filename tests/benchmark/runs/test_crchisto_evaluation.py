"""A run trained on CoNSeP (40x, outlines) and scored on CRCHisto (20x, points, some without a type)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.forward.scaling import rescale
from benchmark.host.machine import Machine
from benchmark.inference.decoding import decode_to_files
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.results.store import RunStore, read_instances
from benchmark.runs.evaluate import Decoding, evaluate
from benchmark.runs.run import execute
from datamodules.consep import CoNSeP
from datamodules.crchisto import CLASS_FILES, CRCHisto
from datamodules.sources import ImageSet
from leaderboards.literature import load_facts
from leaderboards.papers.classification import SPELLINGS, Classification
from leaderboards.records import load_scores
from postproc.codec import Codec
from postproc.codecs.distance import DistanceCodec
from postproc.codecs.hover import HoverCodec
from postproc.codecs.typed import TypedCodec
from postproc.instances import Instances

SPEC = RunSpec(
    "dist",
    "consep",
    options={"features": 2, "classify": True},
    overrides=Overrides(crop=64, augment="flips", crops_per_image=1, steps=2, batch_size=2),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    CoNSeP.write_synthetic(root / "consep", size=96)
    CRCHisto.write_synthetic(root / "crchisto", size=128)
    return root


def test_types_have_one_numbering() -> None:
    assert CRCHisto.card.types == CoNSeP.card.types
    for number, file in enumerate(CLASS_FILES):
        (name,) = (name for name, spellings in SPELLINGS.items() if file in spellings)
        assert CoNSeP.card.types[number] in SPELLINGS[name]
    assert (CoNSeP.card.radius, CRCHisto.card.radius) == (12, 6)


def seen_at_40x(truth: Instances, types: np.ndarray) -> Instances:
    """Draw a disc at each centre, at twice the magnification; `types` for nuclei whose type nobody knows."""
    height, width = truth.shape
    y, x = np.mgrid[: 2 * height, : 2 * width]
    labels = np.zeros((2 * height, 2 * width), np.int32)
    for k, (px, py) in enumerate(truth.centroids(), start=1):
        near = (x - (2 * px + 0.5)) ** 2 + (y - (2 * py + 0.5)) ** 2 <= 36
        labels[near & (labels == 0)] = k
    assert truth.types is not None
    return Instances(labels.shape, labels=labels, types=np.where(truth.types == 0, types, truth.types))


@pytest.mark.parametrize("codec", [TypedCodec(DistanceCodec(), 4), HoverCodec(4)], ids=["distance", "hover"])
def test_a_perfect_network_gets_perfect_scores(codec: Codec, data: Path, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, SPEC)
    images = CRCHisto(data / "crchisto")
    unlabelled = 0
    for k, record in enumerate(images.select("all")):
        sample = images.read(record)
        assert sample.magnification == 20
        truth = sample.truth
        assert truth.types is not None
        unlabelled += int((truth.types == 0).sum())
        enlarged = rescale(sample.image, 40.0, sample.magnification)
        guesses = np.random.default_rng(k).integers(1, 5, truth.count)
        seen = seen_at_40x(truth, guesses)
        assert seen.shape == enlarged.shape[:2]
        path = store.prediction_file("crchisto", "dist", record.image_id)
        decode_to_files({"dist": (codec, codec.defaults(), path)}, codec.perfect(codec.encode(seen)), truth.shape)
        assert read_instances(path).shape == truth.shape
    decoding = Decoding("dist", "DIST", codec.defaults())
    summary = evaluate(store, ImageSet(images, "all"), decoding, typed=True, progress=False)
    assert unlabelled > 10
    # a few discs run together or are cut at the border; whatever is found has its place and its type
    assert summary["F_d"] > 0.95
    assert summary["accuracy"] > 0.98
    for t in range(1, 5):
        assert summary[f"F_c_{t}"] > 0.9
    about = json.loads(next(store.path.glob("evaluations/*/*/evaluation.json")).read_text())
    assert about["radius"] == 6
    assert about["types"] == list(CoNSeP.card.types)
    table = pd.read_csv(next(store.path.glob("evaluations/*/*/scores.csv")))
    assert table[[f"n_pair_0_{j}" for j in range(5)] + ["n_missed_0"]].sum().sum() == unlabelled
    # without the correction each guess at an unlabelled nucleus would be a wrong type
    assert table["n_wrong"].sum() < unlabelled / 4


def test_from_the_command_to_the_table(data: Path, tmp_path: Path) -> None:
    machine = Machine(data, tmp_path / "runs", workers=0, progress=False)
    targets = [Target("consep", "test"), Target("crchisto", "all")]
    result = execute(SPEC, targets, machine)
    assert {str(target) for target, _ in result.scores} == {"consep.test", "crchisto.all"}
    for record in CRCHisto(data / "crchisto").select("all"):
        found = read_instances(result.store.prediction_file("crchisto", "dist", record.image_id))
        assert found.shape == (128, 128)
        assert found.types is not None
    frame = Classification(lambda _dataset, _split: 2).build(load_scores([tmp_path / "runs"]), load_facts())
    mine = frame[(frame["method"] == "DIST") & frame["ours"].notna()]
    assert set(mine["dataset"]) == {"CoNSeP", "CRCHisto"}
    assert mine["published"].notna().any()
    assert not mine["options"].str.contains("classify").any()
    assert set(mine["trained_on"]) == {"consep.train"}
