"""Report of `nucbench speed`: a table on the terminal and a CSV file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.host.console import print_frame
from benchmark.host.cores import usable_cores
from benchmark.host.environment import hardware
from benchmark.host.precision import resolve
from benchmark.results.store import write_scores
from benchmark.speed.components import component_timings, make_scene, patch_timing
from benchmark.speed.loader import loader_timings
from benchmark.speed.methods import method_timings
from benchmark.speed.timing import Timing, single_thread
from postproc.errors import ConfigError

VERSIONS = ("nucbench", "torch", "numba", "numpy")
"""Packages whose versions are part of the file name."""


def run_speed(
    methods: list[str],
    options: dict[str, Any],
    sides: list[int],
    repeats: int,
    precision: str,
    out: Path,
    *,
    train: bool = False,
    workers: int | None = None,
) -> Path:
    """Time components or methods, print a table and write it as CSV.

    Args:
        methods: Methods to time; empty = the components.
        options: Options of the methods.
        sides: Sides of the images in pixels.
        repeats: Counted runs.
        precision: Lightning precision of networks.
        out: Output folder.
        train: Also time training steps.
        workers: Number of processes of the loader; None = one per core.

    Returns:
        Path of the CSV file.

    Raises:
        ConfigError: If sizes or repeats are not positive.
    """
    for flag, value in (("--repeats", repeats), *(("--sizes", side) for side in sides)):
        if value < 1:
            raise ConfigError(f"{flag} is {value}; give 1 or more")
    if methods:
        timings = [
            timing
            for name in methods
            for side in sides
            for timing in method_timings(name, options, side, repeats, precision, train=train and side == sides[0])
        ]
    else:
        precision = "32-true"  # no network runs
        timings = _components(sides, repeats, usable_cores() if workers is None else workers)
    return write_report(timings, "-".join(methods) or "components", precision, out)


def _components(sides: list[int], repeats: int, workers: int) -> list[Timing]:
    with single_thread():
        timings = [timing for side in sides for timing in component_timings(make_scene(side), repeats).values()]
        return [*timings, patch_timing(repeats), *loader_timings(repeats, workers)]


def write_report(timings: Iterable[Timing], kind: str, precision: str, out: Path) -> Path:
    """Print timings as tables and write them as CSV.

    Args:
        timings: The timings.
        kind: Their name in the file name.
        precision: Lightning precision of networks.
        out: Output folder.

    Returns:
        Path of the CSV file.
    """
    frame = to_frame(timings)
    path = out / file_name(kind, precision)
    write_scores(path, frame)
    print_report(frame)
    print(f"written to {path}")
    return path


def to_frame(timings: Iterable[Timing]) -> pd.DataFrame:
    """Return a row per timing, with its ratio to the target time and to the time of nucbench."""
    frame = pd.DataFrame([dataclasses.asdict(timing) for timing in timings])
    numbers = ["to_reach_ms", "samples_per_second", "share", "nucbench_ms", "agreement"]
    frame[numbers] = frame[numbers].astype(float)
    after = list(frame.columns).index("to_reach_ms") + 1
    frame.insert(after, "of_to_reach", frame["median_ms"] / frame["to_reach_ms"])
    after = list(frame.columns).index("nucbench_ms") + 1
    frame.insert(after, "times_nucbench", frame["median_ms"] / frame["nucbench_ms"])
    return frame


def file_name(kind: str, precision: str) -> str:
    """Return the file name of a report: its kind, hardware, precision and versions."""
    versions = " ".join(f"{name}-{version(name)}" for name in VERSIONS)
    parts = (kind, hardware(), resolve(precision), versions)
    return "_".join(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-") for part in parts) + ".csv"


SHOWN = {
    "times": ["job", "by", "size", "nuclei", "median_ms", "fastest_ms", "runs", "to_reach_ms", "of_to_reach"],
    "training samples": ["job", "size", "median_ms", "samples_per_second", "note"],
    "others": ["job", "by", "size", "median_ms", "nucbench_ms", "times_nucbench", "agreement", "agreement_in", "note"],
}
"""Columns of each table."""


def print_report(frame: pd.DataFrame) -> None:
    """Print one table each for components, training samples and other packages; the CSV has more columns."""
    compared, drawn = frame["nucbench_ms"].notna(), frame["samples_per_second"].notna()
    rows = {
        "times": frame[~compared & ~drawn & frame["share"].isna()],
        "training samples": frame[drawn],
        "others": frame[compared],
    }
    for name, part in rows.items():
        if len(part):
            print_frame(part[SHOWN[name]])
