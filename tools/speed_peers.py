"""Time the jobs of `nucbench speed` in other packages and ours, in the same run, and compare the results.

    python tools/speed_peers.py --sizes 1000 4000

Packages that are not installed are skipped (pip install -c constraints.txt -e '.[peers]'). The CSV is named by
hardware, precision and versions, like those of `nucbench speed`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import speed_peer_calls as calls
from numpy.typing import NDArray

from benchmark.metrics.centroids import label_centroids
from benchmark.metrics.contingency import contingency
from benchmark.metrics.instance import aji, panoptic_counts, panoptic_scores
from benchmark.speed.components import H_MAXIMA, LABELLING, WATERSHED, Scene, component_timings, make_scene
from benchmark.speed.reach import CENTROIDS, CHESSBOARD, HOVER_DECODING, HOVER_EVERYTHING, HOVER_TARGETS, METRICS
from benchmark.speed.report import write_report
from benchmark.speed.timing import Timing, measure, single_thread
from postproc.codecs.distance import chessboard
from postproc.codecs.hover import HoverCodec, hover_maps
from postproc.pixels.components import connected_components
from postproc.pixels.morphology import h_maxima_transform
from postproc.pixels.watershed import watershed

EXTRA = "pip install 'nucbench[peers]' (from a checkout: pip install -c constraints.txt -e '.[peers]')"
"""How to install the peers that nucbench itself does not need."""
SMALL = 250
"""Side, in pixels, of the scene for warming up the peers."""
PATIENCE = 3.0
"""Seconds after which a peer is not run again."""


@dataclass(frozen=True)
class Peer:
    """One job of one package.

    Attributes:
        package: Name of the distribution, for its version.
        module: Imported module.
        job: Our job to compare with.
        does: Exact description, for the table.
        prepare: Imports the package, converts a scene, and returns the call that does the job.
        agreement: Compares its result with ours for the same scene.
        agreement_in: Name of the quantity measured by `agreement`.
        largest: Side, in pixels, of the largest image to run; None = any.
        note: Known difference in the computation.
    """

    package: str
    module: str
    job: str
    does: str
    prepare: Callable[[Scene], Callable[[], Any]]
    agreement: Callable[[Scene, Any], float]
    agreement_in: str
    largest: int | None = None
    note: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package can be imported, without importing it."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None


def panoptic_quality(truth: NDArray[np.int32], predicted: NDArray[np.int32]) -> float:
    """Return the PQ of a label map."""
    return panoptic_scores(panoptic_counts(contingency(truth, predicted))).pq


def _scored(ours: Callable[[Scene], float]) -> Callable[[Scene, Any], float]:
    return lambda scene, theirs: abs(ours(scene) - float(theirs))


def _largest_difference(ours: Callable[[Scene], NDArray[Any]]) -> Callable[[Scene, Any], float]:
    return lambda scene, theirs: float(np.abs(ours(scene) - np.asarray(theirs)).max())


def _pq_of_maps(ours: Callable[[Scene], Any]) -> Callable[[Scene, Any], float]:
    return lambda scene, theirs: panoptic_quality(ours(scene), np.ascontiguousarray(theirs, np.int32))


def _pq(scene: Scene) -> float:
    return panoptic_quality(scene.labels, scene.predicted)


def _average_precision(scene: Scene) -> float:
    counts = panoptic_counts(contingency(scene.labels, scene.predicted))
    return counts.tp / (counts.tp + counts.fp + counts.fn)


def _decoded(scene: Scene) -> Any:
    codec = HoverCodec(0)
    return codec.decode(scene.hover, codec.defaults()).labels


SCORE = "difference of the score"
MAPS = "PQ between the two label maps"

PEERS = (
    Peer(
        "cellpose",
        "cellpose.metrics",
        METRICS,
        "AJI",
        calls.cellpose_aji,
        _scored(lambda scene: aji(contingency(scene.labels, scene.predicted))),
        SCORE,
        note="another definition: one-to-one pairs, over the union of the two foregrounds",
    ),
    Peer(
        "cellpose",
        "cellpose.metrics",
        METRICS,
        "average precision at IoU 0.5",
        calls.cellpose_average_precision,
        _scored(_average_precision),
        SCORE,
        note="an IoU of exactly 0.5 is a match too",
    ),
    Peer(
        "stardist",
        "stardist.matching",
        METRICS,
        "PQ",
        calls.stardist_pq,
        _scored(_pq),
        SCORE,
        note="an IoU of exactly 0.5 is a match too",
    ),
    Peer("torchmetrics", "torchmetrics", METRICS, "PQ", calls.torchmetrics_pq, _scored(_pq), SCORE),
    Peer(
        "monai",
        "monai.metrics",
        METRICS,
        "PQ",
        calls.monai_pq,
        _scored(_pq),
        SCORE,
        largest=1000,
        note="compares every pair of nuclei: minutes beyond 1000 px",
    ),
    Peer(
        "scikit-image",
        "skimage.measure",
        CENTROIDS,
        "regionprops",
        calls.skimage_centroids,
        _largest_difference(lambda scene: label_centroids(scene.labels)),
        "largest difference, px",
    ),
    Peer(
        "scipy",
        "scipy.ndimage",
        CENTROIDS,
        "center_of_mass",
        calls.scipy_centroids,
        _largest_difference(lambda scene: label_centroids(scene.labels)),
        "largest difference, px",
    ),
    Peer(
        "monai",
        "monai.transforms",
        HOVER_TARGETS,
        "ComputeHoVerMaps",
        calls.monai_hover_maps,
        lambda scene, theirs: float(np.corrcoef(hover_maps(scene.labels).ravel(), np.asarray(theirs).ravel())[0, 1]),
        "correlation of the two maps",
        largest=1000,
        note="the zero is the exact centroid, the published code's is rounded and one px further up and left",
    ),
    Peer(
        "scipy",
        "scipy.ndimage",
        CHESSBOARD,
        "distance_transform_cdt of each nucleus",
        calls.scipy_chessboard,
        _largest_difference(lambda scene: chessboard(scene.labels)),
        "largest difference, px",
    ),
    Peer(
        "monai",
        "monai.apps.pathology.transforms",
        HOVER_DECODING,
        "transforms up to the label map",
        calls.monai_label_map,
        _pq_of_maps(_decoded),
        MAPS,
        note="Sobel kernel of 21 px in place of its 5",
    ),
    Peer(
        "monai",
        "monai.apps.pathology.transforms",
        HOVER_EVERYTHING,
        "HoVerNetInstanceMapPostProcessing",
        calls.monai_everything,
        _pq_of_maps(_decoded),
        MAPS,
        largest=1000,
        note="Sobel kernel of 21 px in place of its 5; no types",
    ),
    Peer(
        "scikit-image",
        "skimage.segmentation",
        WATERSHED,
        "watershed",
        calls.skimage_watershed,
        _pq_of_maps(lambda scene: watershed(*scene.flooding)),
        MAPS,
    ),
    Peer(
        "scikit-image",
        "skimage.morphology",
        H_MAXIMA,
        "reconstruction",
        calls.skimage_reconstruction,
        _largest_difference(lambda scene: h_maxima_transform(scene.levels, 1.0).astype(float)),
        "largest difference",
    ),
    Peer(
        "scipy",
        "scipy.ndimage",
        LABELLING,
        "label",
        calls.scipy_label,
        _pq_of_maps(lambda scene: connected_components(scene.flooding[2], 4)[0]),
        MAPS,
    ),
    Peer(
        "scikit-image",
        "skimage.measure",
        LABELLING,
        "label",
        calls.skimage_label,
        _pq_of_maps(lambda scene: connected_components(scene.flooding[2], 4)[0]),
        MAPS,
    ),
)
"""Peers in the order of the table."""


def peer_timings(
    scene: Scene, small: Scene, ours: Mapping[str, Timing], repeats: int, peers: tuple[Peer, ...] = PEERS
) -> list[Timing]:
    """Time every installed peer on a scene, after a run on a small one that compiles and imports.

    Args:
        scene: The timed scene.
        small: The scene for warming up.
        ours: Our timings of the same scene, by job.
        repeats: Maximum number of counted runs; slow peers run fewer times.
        peers: The peers to time.

    Returns:
        One timing per installed peer whose `largest` side is not exceeded.
    """
    found = []
    for peer in peers:
        if not peer.installed or scene.side > (peer.largest or scene.side):
            continue
        results: list[Any] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations between other packages
            timing = _measured(peer, scene, small, ours[peer.job], repeats, results)
        found.append(dataclasses.replace(timing, agreement=peer.agreement(scene, results[-1])))
    return found


def _measured(peer: Peer, scene: Scene, small: Scene, ours: Timing, repeats: int, results: list[Any]) -> Timing:
    """Time one peer and append the result of each run to `results`."""
    call = peer.prepare(scene)
    return measure(
        f"{peer.job}: {peer.does}",
        scene.size,
        scene.truth.count,
        lambda: results.append(call()),
        repeats,
        warm=peer.prepare(small),
        patience=PATIENCE,
        by=f"{peer.package} {version(peer.package)}",
        nucbench_ms=ours.median_ms,
        agreement_in=peer.agreement_in,
        note=peer.note,
    )


def missing(peers: tuple[Peer, ...] = PEERS) -> list[str]:
    """Return the names of the packages that are not installed."""
    return sorted({peer.package for peer in peers if not peer.installed})


def left_out(side: int, peers: tuple[Peer, ...] = PEERS) -> list[str]:
    """Return the jobs that installed peers skip at this size because they are too slow."""
    return [f"{peer.package} {peer.does}" for peer in peers if peer.installed and side > (peer.largest or side)]


def main() -> None:
    """Time ours and theirs, print a table and write it as CSV."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000], help="sides of the synthetic images, px")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each job")
    parser.add_argument("--out", type=Path, default=Path("leaderboards/speed"), help="output folder")
    given = parser.parse_args()
    if min(*given.sizes, given.repeats) < 1:
        parser.error("--sizes and --repeats must be 1 or more")
    timings: list[Timing] = []
    with single_thread():
        small = make_scene(SMALL)
        for side in given.sizes:
            scene = make_scene(side)
            ours = component_timings(scene, given.repeats)
            timings += [*ours.values(), *peer_timings(scene, small, ours, given.repeats)]
            for what in left_out(side):
                print(f"not timed at {side} px, as it would take minutes: {what}")
    write_report(timings, "peers", "32-true", given.out)
    if missing():
        print(f"not timed, as not installed: {', '.join(missing())}. To compare with them: {EXTRA}")


if __name__ == "__main__":
    main()
