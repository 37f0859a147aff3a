"""Compiled assignment by shortest augmenting paths. Importing this module imports numba.

Both functions are the Hungarian method in its shortest-path form (Jonker and Volgenant 1987; Crouse 2016, "On
implementing 2D rectangular assignment algorithms"). Rows are added one by one, each by a Dijkstra search over the
reduced costs ``cost - u[row] - v[column]``, which the dual variables u and v keep non-negative. Free columns have v = 0
and v only decreases, so that the searches below are exact although they visit few columns.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@compiled
def _augment(sink: int, row: int, parent: _Ints, column_of: _Ints, row_of: _Ints) -> None:
    """Flip the path from the free row to the free column `sink`; with sink -1, to `row`, which becomes unmatched."""
    column = sink
    if sink == -1:
        column = column_of[row]
        column_of[row] = -1
    while column != -1:
        row = parent[column]
        row_of[column] = row
        column_of[row], column = column, column_of[row]


@compiled
def sparse_assignment(starts: _Ints, columns: _Ints, costs: _Floats, n_columns: int, unmatched: float) -> _Ints:
    """Find the matching of minimal cost in a sparse graph whose rows may stay unmatched.

    Args:
        starts: int64 (N + 1,), edges of row i are ``starts[i]:starts[i + 1]``.
        columns: int64 (E,), column of each edge; at most one edge per pair.
        costs: float64 (E,), cost of each edge, non-negative.
        n_columns: Number of columns.
        unmatched: Cost of an unmatched row, non-negative.

    Returns:
        int64 (N,), column of each row, -1 = unmatched.
    """
    n = starts.size - 1
    u, v = np.zeros(n), np.zeros(n_columns)
    column_of, row_of = np.full(n, -1), np.full(n_columns, -1)
    parent = np.full(n_columns, -1)
    distance = np.full(n_columns, np.inf)
    done = np.zeros(n_columns, np.bool_)
    reached = np.empty(n_columns, np.int64)
    for start in range(n):
        n_reached = 0
        heap = [(0.0, 0)]
        heap.clear()
        row, sink, alone, shortest = start, -1, -1, np.inf
        here = 0.0  # distance of the expanded row
        while True:
            if here - u[row] + unmatched < shortest:  # leave this row unmatched
                shortest, alone, sink = here - u[row] + unmatched, row, -1
            for e in range(starts[row], starts[row + 1]):
                j = columns[e]
                there = here + costs[e] - u[row] - v[j]
                if done[j] or there >= distance[j] or there >= shortest:
                    continue
                if distance[j] == np.inf:
                    reached[n_reached] = j
                    n_reached += 1
                distance[j], parent[j] = there, row
                if row_of[j] == -1:
                    shortest, sink, alone = there, j, -1
                else:
                    heappush(heap, (there, j))
            while len(heap) > 0 and (done[heap[0][1]] or heap[0][0] > distance[heap[0][1]]):
                heappop(heap)
            if len(heap) == 0 or heap[0][0] >= shortest:
                break
            here, j = heappop(heap)
            done[j] = True
            row = row_of[j]
        u[start] += shortest
        for k in range(n_reached):
            j = reached[k]
            if done[j]:
                u[row_of[j]] += shortest - distance[j]
                v[j] -= shortest - distance[j]
            distance[j] = np.inf
            done[j] = False
        _augment(sink, alone, parent, column_of, row_of)
    return column_of


@compiled
def _grid(points: _Floats, origin: _Floats, size: float, shape: tuple[int, int]) -> tuple[_Ints, _Ints]:
    """Sort points into square cells; return the start of each cell in the order, and the order."""
    cells = np.empty(len(points), np.int64)
    starts = np.zeros(shape[0] * shape[1] + 1, np.int64)
    for k in range(len(points)):
        i = min(int((points[k, 0] - origin[0]) / size), shape[0] - 1)
        j = min(int((points[k, 1] - origin[1]) / size), shape[1] - 1)
        cells[k] = i * shape[1] + j
        starts[cells[k] + 1] += 1
    return np.cumsum(starts), np.argsort(cells, kind="mergesort")


@compiled
def planar_assignment(rows: _Floats, points: _Floats) -> _Ints:
    """Assign a point of the plane to every row so that the sum of Euclidean distances is minimal.

    The graph is complete, but no matrix is built: a row visits the points in rings of grid cells. Before ring r is
    visited, the heap contains an entry with a lower bound for all its points, ``distance of the row - u + distance to
    the ring`` (v <= 0 only increases it). So a point is settled only when no unvisited point can be nearer, and the
    result is an exact optimum. Memory is linear in the number of points.

    Args:
        rows: float64 (N, 2), finite.
        points: float64 (M, 2), finite, M >= N.

    Returns:
        int64 (N,), point of each row.
    """
    n, m = len(rows), len(points)
    low, high = np.empty(2), np.empty(2)
    for axis in range(2):
        low[axis] = min(rows[:, axis].min(), points[:, axis].min())
        high[axis] = max(rows[:, axis].max(), points[:, axis].max())
    extent = high - low
    # two points per cell on average, and at most about m / 2 cells per side even if the box is narrow
    size = max(np.sqrt(2 * extent[0] * extent[1] / m), 2 * extent.max() / m)
    if size == 0:
        size = 1.0
    shape = (int(extent[0] / size) + 1, int(extent[1] / size) + 1)
    starts, order = _grid(points, low, size, shape)
    u, v = np.zeros(n), np.zeros(m)
    column_of, row_of = np.full(n, -1), np.full(m, -1)
    parent = np.full(m, -1)
    distance = np.full(m, np.inf)
    done = np.zeros(m, np.bool_)
    reached = np.empty(m, np.int64)
    row_distance = np.zeros(n)
    ring = np.zeros(n, np.int64)
    for start in range(n):
        n_reached = 0
        shortest, sink = np.inf, -1
        row_distance[start], ring[start] = 0.0, 0
        heap = [(-u[start], -start - 1)]  # entries: point j, or -i - 1 for row i with its next ring
        while len(heap) > 0 and heap[0][0] < shortest:
            key, entry = heappop(heap)
            if entry >= 0:
                if done[entry] or key > distance[entry]:
                    continue
                done[entry] = True
                row = row_of[entry]
                row_distance[row], ring[row] = key, 0
                heappush(heap, (key - u[row], -row - 1))
                continue
            row = -entry - 1
            r = ring[row]
            x, y = rows[row, 0], rows[row, 1]
            ci = min(int((x - low[0]) / size), shape[0] - 1)
            cj = min(int((y - low[1]) / size), shape[1] - 1)
            base = row_distance[row] - u[row]
            for i in range(max(ci - r, 0), min(ci + r, shape[0] - 1) + 1):
                step = 1 if abs(i - ci) == r or r == 0 else 2 * r  # inner rows of a ring have only two cells
                for j in range(cj - r, cj + r + 1, step):
                    if j < 0 or j >= shape[1]:
                        continue
                    for k in range(starts[i * shape[1] + j], starts[i * shape[1] + j + 1]):
                        p = order[k]
                        there = base - v[p] + np.hypot(points[p, 0] - x, points[p, 1] - y)
                        if done[p] or there >= distance[p] or there >= shortest:
                            continue
                        if distance[p] == np.inf:
                            reached[n_reached] = p
                            n_reached += 1
                        distance[p], parent[p] = there, row
                        if row_of[p] == -1:
                            shortest, sink = there, p
                        else:
                            heappush(heap, (there, p))
            ring[row] = r + 1
            if r < max(shape):
                inside = min(x - low[0] - ci * size, (ci + 1) * size - x + low[0])
                inside = min(inside, y - low[1] - cj * size, (cj + 1) * size - y + low[1])
                # 1e-9 of a cell exceeds the rounding that can move a point across the border of its cell
                heappush(heap, (base + max(r * size + inside - 1e-9 * size, 0.0), entry))
        u[start] += shortest
        for k in range(n_reached):
            p = reached[k]
            if done[p]:
                u[row_of[p]] += shortest - distance[p]
                v[p] -= shortest - distance[p]
            distance[p] = np.inf
            done[p] = False
        _augment(sink, -1, parent, column_of, row_of)
    return column_of
