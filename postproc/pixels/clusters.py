"""Decode images of any size region by region, with the same result as decoding them whole.

A codec's `support` marks the pixels that influence each other. Its 8-connected parts, each including everything it
encloses, are the clusters of an image. Nuclei of different clusters do not depend on each other, so each cluster can be
decoded in any region that contains it completely. To find the clusters without loading the whole image,

- each block of the image numbers its own parts, of the support over 8 neighbours and of the background over 4
  (`label_block`),
- parts that touch across the seams of blocks are joined, and so are all parts around a hole, which is background
  without a path to the border of the image (`ClusterMap.finish`).

Neither step stores pixels: only the border lines of each block and one row per part are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components

from postproc.pixels.compiled import compiled
from postproc.pixels.components import connected_components, fill_holes

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels of the image, half open."""


@dataclass(frozen=True, slots=True)
class Block:
    """The parts of one block.

    Attributes:
        boxes: int64 (P, 4), box of each part of the support, in pixels of the image.
        first: int64 (P,), first pixel of each part in raster order, as a flat position in the image.
        outer: bool (Q,), True for parts of the background that touch the border of the image.
        contacts: int64 (K, 2), pairs of background and support parts that are 4-neighbours, numbered from 0.
        lines: Top and bottom row, left and right column: part p of the support as p + 1, q of the background as
            -q - 1.
    """

    boxes: Ints
    first: Ints
    outer: Mask
    contacts: Ints
    lines: tuple[Ints, Ints, Ints, Ints]


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of an image.

    Attributes:
        boxes: int64 (N, 4), box of each.
        first: int64 (N,), first pixel of each in raster order, as a flat position in the image; it identifies the
            cluster.
        of_part: (row, column) of each block -> int64 (P,), cluster of each of its parts.
    """

    boxes: Ints
    first: Ints
    of_part: dict[tuple[int, int], Ints]


def label_block(support: Mask, top: int, left: int, shape: tuple[int, int]) -> Block:
    """Number the parts of one block.

    Args:
        support: bool (h, w), of this block only.
        top: First row of the block in the image.
        left: First column.
        shape: (H, W) of the image.
    """
    height, width = support.shape
    inside, parts = connected_components(support, 8)
    outside, gaps = connected_components(~support, 4)
    signed = inside.astype(np.int64) - outside
    boxes, first = extents(inside, parts, top, left, shape[1])
    outer = np.zeros(gaps + 1, np.bool_)
    sides = (top == 0, top + height == shape[0], left == 0, left + width == shape[1])
    lines = (signed[0].copy(), signed[-1].copy(), signed[:, 0].copy(), signed[:, -1].copy())
    for line, at_border in zip(lines, sides, strict=True):
        if at_border:
            outer[-line[line < 0]] = True
    pairs = [_contacts(signed[:, :-1], signed[:, 1:]), _contacts(signed[:-1], signed[1:])]
    return Block(boxes, first, outer[1:], np.unique(np.concatenate(pairs), axis=0), lines)


def empty_block(box: Box, shape: tuple[int, int]) -> Block:
    """Return what `label_block` returns for a block without support, in a few bytes.

    Args:
        box: Box of the block.
        shape: (H, W) of the image.
    """
    top, left, bottom, right = box
    outer = top == 0 or left == 0 or bottom == shape[0] or right == shape[1]
    row, column = (np.broadcast_to(np.int64(-1), size) for size in (right - left, bottom - top))
    nothing = np.zeros(0, np.int64)
    pairs = np.zeros((0, 2), np.int64)
    return Block(np.zeros((0, 4), np.int64), nothing, np.array([outer]), pairs, (row, row, column, column))


def extents(labels: NDArray[Any], count: int, top: int, left: int, width: int) -> tuple[Ints, Ints]:
    """Return the box, int64 (count, 4), and the first pixel, int64 (count,), of each id 1..count of a block.

    Args:
        labels: int (h, w), 0 = background.
        count: Largest id.
        top: First row of the block in the image.
        left: First column.
        width: Of the image, for the flat position of the first pixel, which is -1 for ids that do not occur.
    """
    return _extents(np.ascontiguousarray(labels), count, top, left, width)


@compiled
def _extents(labels: NDArray[Any], count: int, top: int, left: int, width: int) -> tuple[Ints, Ints]:
    boxes = np.zeros((count, 4), np.int64)
    first = np.full(count, -1, np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            k = labels[y, x] - 1
            if k < 0:
                continue
            row, column = top + y, left + x
            if first[k] < 0:
                first[k] = row * width + column
                boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3] = row, column, row + 1, column + 1
            else:
                boxes[k, 1] = min(boxes[k, 1], column)
                boxes[k, 2] = row + 1
                boxes[k, 3] = max(boxes[k, 3], column + 1)
    return boxes, first


def _contacts(one: Ints, other: Ints) -> Ints:
    """Return the unique (background, support) pairs of neighbours in two signed maps, from 0, int64 (K, 2)."""
    differ = (one > 0) != (other > 0)
    pairs = np.stack([np.minimum(one[differ], other[differ]), np.maximum(one[differ], other[differ])], axis=1)
    return np.unique(pairs * [-1, 1] - 1, axis=0)


class ClusterMap:
    """Collects the blocks of an image in any order.

    Args:
        rows: Number of rows of blocks.
        columns: Number of blocks in each.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = rows, columns
        self._blocks: dict[tuple[int, int], Block] = {}

    def add(self, row: int, column: int, block: Block) -> None:
        """Add the parts of one block."""
        self._blocks[row, column] = block

    def finish(self) -> Clusters:
        """Join the parts across seams and around holes.

        Raises:
            ValueError: If a block is missing.
        """
        places = [(r, c) for r in range(self._shape[0]) for c in range(self._shape[1])]
        if set(places) != set(self._blocks):
            raise ValueError(f"{len(self._blocks)} of {len(places)} blocks were added")
        blocks = [self._blocks[place] for place in places]
        starts = dict(zip(places, _offsets([len(b.first) for b in blocks]), strict=False))
        gap_starts = dict(zip(places, _offsets([len(b.outer) for b in blocks]), strict=False))
        parts, gaps = sum(len(b.first) for b in blocks), sum(len(b.outer) for b in blocks)
        joins: list[Ints] = [np.zeros((0, 2), np.int64)]
        gap_joins = joins.copy()
        contacts = [b.contacts + np.array([gap_starts[place], starts[place]]) for place, b in self._blocks.items()]
        for before, after in self._seams(starts, gap_starts):
            joins += [_both(before, after), _both(before[1:], after[:-1]), _both(before[:-1], after[1:])]
            gap_joins.append(np.unique(_both(-before, -after), axis=0))  # a seam of a slide has 100,000 equal pairs
            contacts.append(_contacts(before, after))
        group, groups = _join(parts, joins)
        gap_group, gap_groups = _join(gaps, gap_joins)
        hole = np.ones(gap_groups, np.bool_)
        hole[gap_group[np.concatenate([b.outer for b in blocks])]] = False
        touching = np.concatenate(contacts)
        gap, part = gap_group[touching[:, 0]], group[touching[:, 1]]
        around = np.stack([part, groups + gap], axis=1)[hole[gap]]
        cluster, _ = _join(groups + gap_groups, [around])
        return self._clusters(cluster[group], starts)

    def _clusters(self, of_part: Ints, starts: dict[tuple[int, int], int]) -> Clusters:
        """Merge the boxes and first pixels of the parts of each cluster."""
        ids, of_part = np.unique(of_part, return_inverse=True)
        blocks = {place: self._blocks[place] for place in starts}
        part_boxes = np.concatenate([b.boxes for b in blocks.values()])
        far = np.iinfo(np.int64).max
        boxes = np.tile(np.array([far, far, 0, 0]), (ids.size, 1))
        first = np.full(ids.size, far)
        np.minimum.at(boxes[:, :2], of_part, part_boxes[:, :2])
        np.maximum.at(boxes[:, 2:], of_part, part_boxes[:, 2:])
        np.minimum.at(first, of_part, np.concatenate([b.first for b in blocks.values()]))
        own = {place: of_part[start : start + len(blocks[place].first)] for place, start in starts.items()}
        return Clusters(boxes, first, own)

    def _seams(self, starts: dict[tuple[int, int], int], gap_starts: dict[tuple[int, int], int]) -> list[Any]:
        """Return the two lines along each seam, across the whole image, in global numbers."""

        def line(place: tuple[int, int], side: int) -> Ints:
            own = self._blocks[place].lines[side]
            return np.where(own > 0, own + starts[place], own - gap_starts[place])

        rows, columns = range(self._shape[0]), range(self._shape[1])
        seams = [
            tuple(np.concatenate([line((r + below, c), 1 - below) for c in columns]) for below in (0, 1))
            for r in rows[:-1]
        ]
        seams += [
            tuple(np.concatenate([line((r, c + right), 3 - right) for r in rows]) for right in (0, 1))
            for c in columns[:-1]
        ]
        return seams


def _offsets(sizes: list[int]) -> list[int]:
    return [0, *np.cumsum(sizes, dtype=np.int64).tolist()]


def _both(one: Ints, other: Ints) -> Ints:
    """Return the pairs, from 0, where both lines are positive, int64 (K, 2)."""
    chosen = (one > 0) & (other > 0)
    return np.stack([one[chosen], other[chosen]], axis=1) - 1


def _join(count: int, pairs: list[Ints]) -> tuple[Ints, int]:
    """Return the connected component of each of `count` nodes, and the number of components."""
    edges = np.concatenate(pairs)
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    number, component = graph_components(graph, directed=False)
    return component.astype(np.int64), int(number)


def keep_clusters(support: Mask, owned: Ints, top: int, left: int, width: int) -> Mask:
    """Mark the pixels of complete clusters in a region.

    Args:
        support: bool (h, w), of the region.
        owned: First pixels of the clusters as flat positions in the image; the region contains all of them completely.
        top: First row of the region in the image.
        left: First column.
        width: Of the image in pixels.

    Returns:
        bool (h, w), including what the clusters enclose.

    Raises:
        ValueError: If a cluster is not in the region.
    """
    parts, count = connected_components(fill_holes(support), 8)
    _, first = extents(parts, count, top, left, width)
    chosen = np.isin(first, owned)
    if chosen.sum() != len(owned):
        raise ValueError(f"{len(owned) - int(chosen.sum())} of {len(owned)} clusters are not in the region")
    return np.asarray(np.concatenate([[False], chosen])[parts], np.bool_)
