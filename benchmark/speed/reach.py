"""Target times of the components, on one thread of a server processor.

They are the times of the fastest known implementation of each job when the suite was planned, in ms, for synthetic
label maps with 700 nuclei in 1000 x 1000 px and 11,200 in 4000 x 4000 px. Machines differ by 20 % and more, so judge by
the ratio.
"""

from __future__ import annotations

METRICS = "DICE, AJI, AJI+, DICE2, DQ, SQ, PQ"
ALL_SCORES = "all scores of an image, with types"
CENTROIDS = "centroids"
HOVER_TARGETS = "HoVer targets"
CHESSBOARD = "chessboard distance"
HOVER_DECODING = "HoVer post-processing"
HOVER_EVERYTHING = "HoVer post-processing with types, centroids, boxes, contours"
DIST_DECODING = "DIST post-processing"

TO_REACH: dict[tuple[str, int], float] = {
    (METRICS, 1000): 5.0,
    (METRICS, 4000): 70.0,
    (CENTROIDS, 1000): 1.0,
    (CENTROIDS, 4000): 11.0,
    (HOVER_TARGETS, 256): 0.3,
    (HOVER_TARGETS, 1000): 4.0,
    (HOVER_TARGETS, 4000): 70.0,
    (CHESSBOARD, 1000): 4.0,
    (CHESSBOARD, 4000): 90.0,
    (HOVER_DECODING, 1000): 25.0,
    (HOVER_DECODING, 4000): 430.0,
    (HOVER_EVERYTHING, 1000): 30.0,
    (HOVER_EVERYTHING, 4000): 550.0,
    (DIST_DECODING, 1000): 32.0,
    (DIST_DECODING, 4000): 700.0,
}
"""(Job, side of the image in pixels) -> ms."""
