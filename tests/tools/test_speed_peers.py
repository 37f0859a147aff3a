from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from speed_peers import MAPS, PEERS, SCORE, Peer, left_out, missing, panoptic_quality, peer_timings

from benchmark.speed import components, reach
from benchmark.speed.components import Scene, component_timings, make_scene
from benchmark.speed.timing import Timing

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[2] / "tools"
ALLOWED = {
    SCORE: 1e-6,
    "largest difference, px": 1e-6,
    "largest difference": 0.0,
}
"""Unit -> largest allowed difference; the other units are 1 where all agrees."""
LOOSE = {
    ("cellpose", "AJI"): 0.15,  # another definition
    ("cellpose", "average precision at IoU 0.5"): 0.05,  # an IoU of exactly 0.5 counts
    ("stardist", "PQ"): 0.05,  # likewise
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(200)


@pytest.fixture(scope="module")
def ours(scene: Scene) -> dict[str, Timing]:
    return component_timings(scene, 1)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.package} {peer.does}")
def test_peers_agree(peer: Peer, scene: Scene, ours: dict[str, Timing]) -> None:
    if not peer.installed:
        pytest.skip(f"{peer.package} is not installed")
    (timing,) = peer_timings(scene, scene, ours, 1, (peer,))
    assert timing.by.startswith(f"{peer.package} ")
    assert timing.nucbench_ms == ours[peer.job].median_ms
    assert timing.median_ms > 0
    assert timing.agreement is not None
    if peer.agreement_in in ALLOWED:
        assert timing.agreement <= LOOSE.get((peer.package, peer.does), ALLOWED[peer.agreement_in])
    else:
        assert 0.9 <= timing.agreement <= 1 + 1e-9


def test_agreement_shows_disagreement(scene: Scene, ours: dict[str, Timing]) -> None:
    by_unit = {peer.agreement_in: peer for peer in PEERS if peer.package in ("scipy", "scikit-image", "torchmetrics")}
    assert set(by_unit) >= {SCORE, MAPS, "largest difference, px"}
    for unit, peer in by_unit.items():
        right = peer.prepare(scene)()
        wrong = 0.0 if unit == SCORE else np.roll(np.asarray(right), 5)
        assert abs(peer.agreement(scene, wrong) - peer.agreement(scene, right)) > 0.1, peer.does


def test_peers_that_are_missing_or_slow_are_left_out(scene: Scene, ours: dict[str, Timing]) -> None:
    good = next(peer for peer in PEERS if peer.package == "scipy")
    absent = dataclasses.replace(good, package="absent", module="no_such_package.inside")
    slow = dataclasses.replace(good, does="slow", largest=199)
    fits = dataclasses.replace(good, does="fits", largest=200)
    chosen = (absent, slow, fits)
    assert [t.job for t in peer_timings(scene, scene, ours, 1, chosen)] == [f"{good.job}: fits"]
    assert missing(chosen) == ["absent"]
    assert left_out(200, chosen) == ["scipy slow"]
    assert left_out(199, chosen) == []


def test_every_peer_is_compared_with_a_job_of_ours(ours: dict[str, Timing]) -> None:
    assert {peer.job for peer in PEERS} <= set(ours)
    assert {"cellpose", "stardist", "monai", "torchmetrics"} <= {peer.package for peer in PEERS}
    assert {reach.METRICS, reach.HOVER_TARGETS, reach.HOVER_DECODING, components.WATERSHED} <= {p.job for p in PEERS}


def test_panoptic_quality_of_label_maps() -> None:
    labels = np.zeros((10, 10), np.int32)
    labels[2:6, 2:6] = 1
    assert panoptic_quality(labels, labels) == 1
    assert panoptic_quality(labels, np.roll(labels, 1, axis=1)) == pytest.approx(12 / 20)


def test_the_script_writes_a_table_of_ours_and_theirs(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(TOOLS / "speed_peers.py"),
        "--sizes",
        "128",
        "--repeats",
        "1",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "scikit-image" in done.stdout
    (path,) = tmp_path.glob("peers_*torch-*.csv")
    frame = pd.read_csv(path)
    assert (frame["by"] == "nucbench").any()
    same = frame[frame["by"].str.startswith("torchmetrics")]
    assert len(same)
    assert (same["agreement"] < 1e-6).all()


@pytest.mark.parametrize("name", ["speed_peers.py", "speed_tiling.py"])
def test_scripts_explain_and_check_their_options(name: str) -> None:
    helped = subprocess.run([sys.executable, str(TOOLS / name), "--help"], capture_output=True, text=True, timeout=100)
    assert helped.returncode == 0
    assert "--sizes" in helped.stdout
    wrong = subprocess.run(
        [sys.executable, str(TOOLS / name), "--sizes", "0"], capture_output=True, text=True, timeout=100
    )
    assert wrong.returncode == 2
    assert "must be 1 or more" in wrong.stderr
