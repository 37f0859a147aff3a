"""Section VI of the HoVer-Net paper: seconds for an image of 1000 x 1000 px."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboards.base import Table
from leaderboards.changes import changes
from leaderboards.literature import Names, load_names, read_table
from leaderboards.render import escape, table

TIMINGS = Path(str(files("leaderboards"))) / "speed"
"""Folder of stored timings (`nucbench speed`)."""

SIZE = "1000 px"
"""Side of the images of the paper."""

NETWORK, DECODING = "network", "post-processing"
"""Jobs of `nucbench speed METHOD`; those of `tools/speed_tiling.py` time networks with different tilings."""

COLUMNS = (
    "method", "registry", "options", "tiles", "hardware", "precision", "threads", "published", "network",
    "post_processing", "ours", "note", "file", "reference",
)  # fmt: skip


class Speed(Table):
    """Seconds for an image of 1000 x 1000 px (Graham 2019, section VI).

    Args:
        timings: Folder of CSV files of `nucbench speed`; None = the committed one.
        names: The name table; None = the committed one.
    """

    name = "speed"
    title = "Seconds per image"
    caption = (
        "Seconds for an image of 1000 x 1000 px. Network and post-processing are listed separately; ours is their sum, "
        "and is empty if one of them was not timed. `nucbench speed METHOD --sizes 1000` stores both for the hardware "
        "it runs on; `tools/speed_tiling.py` times the network alone, with several tile sizes. The image is synthetic, "
        "with 700 nuclei. Published figures: Graham 2019 (HoVer-Net), section VI, on a GPU with 12 GB, batch size 1; "
        "compare them with other hardware only in relation to each other. The padded convolution of the paper is not "
        "the fast mode, whose decoders are not padded."
    )
    published_table = "speed"

    def __init__(self, timings: Path | None = None, names: Names | None = None) -> None:
        self._timings = TIMINGS if timings is None else timings
        self._names = names

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return one line per method, options, tiling and machine, from the stored timings.

        Args:
            scores: Not used.
            published: Published figures as returned by `leaderboards.literature.load_published`.

        Returns:
            `COLUMNS`: ``published``, ``network``, ``post_processing`` and ``ours`` in seconds; ``reference`` is the
            source of the published figure. Methods without timings have a line with only the published figure.

        Raises:
            DataError: If a timing file is broken; the message names it.
        """
        names = self._names or load_names()
        facts = published[published["table"] == self.published_table].drop_duplicates("method")
        printed = {m: (v, s) for m, v, s in facts[["method", "value", "source"]].itertuples(index=False)}
        timed = [line for path in sorted(self._timings.glob("*.csv")) for line in _lines(path, names)]
        lines: list[dict[str, Any]] = []
        for method in dict.fromkeys([*facts["method"], *sorted(line["method"] for line in timed)]):
            value, source = printed.get(method, (None, ""))
            own = [line for line in timed if line["method"] == method] or [{"method": method}]
            lines += [{**line, "published": value, "reference": source} for line in own]
        frame = pd.DataFrame(lines, columns=list(COLUMNS))
        seconds = ["published", "network", "post_processing", "ours"]
        texts = [column for column in COLUMNS if column not in (*seconds, "threads")]
        frame[texts] = frame[texts].fillna("")
        return frame.astype(dict.fromkeys(seconds, "float64") | {"threads": "Int64"})

    def markdown(self, frame: pd.DataFrame) -> str:
        """Return one table: one line per method and machine."""
        header = [
            "Method",
            "published, s",
            "ours, s",
            "network, s",
            "post-processing, s",
            "hardware",
            "precision",
            "note",
        ]
        rows = []
        for line in frame.to_dict("records"):
            settings = "; ".join(str(line[key]) for key in ("options", "tiles") if line[key])
            threads = "" if pd.isna(line["threads"]) else f", {line['threads']} threads"
            figures = [_seconds(line[key]) for key in ("published", "ours", "network", "post_processing")]
            label = escape(f"{line['method']} ({settings})" if settings else str(line["method"]))
            rows.append(
                [label, *figures, *map(escape, (f"{line['hardware']}{threads}", line["precision"], line["note"]))]
            )
        return "\n\n".join([f"# {escape(self.title)}", self.caption, table(header, rows)]) + "\n"


def _lines(path: Path, names: Names) -> list[dict[str, Any]]:
    """Return the timings of methods in a file; empty for a file of component timings."""
    frame = read_table(path, ("job", "size", "median_ms", "threads"))
    kind, hardware, precision, *_ = [*path.stem.split("_"), "", ""]
    titles = {row.method: row.title for row in reversed(list(names)) if row.method}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in frame[frame["size"] == SIZE].to_dict("records"):
        label, _, job = str(line["job"]).partition(": ")
        method, _, options = label.partition(", ")
        if method not in titles or not job or kind == "components":
            continue
        tiles = "" if job in (NETWORK, DECODING) else job
        about = {
            "method": changes().title(titles[method], method, options),
            "registry": method,
            "options": options,
            "tiles": tiles,
            "hardware": hardware.replace("-", " "),
            "precision": precision,
            "threads": line["threads"],
            "file": path.name,
        }
        row = found.setdefault((label, tiles), about)
        row["post_processing" if job == DECODING else "network"] = line["median_ms"] / 1000
        note = line.get("note")
        row["note"] = "" if pd.isna(note) else str(note)
    for row in found.values():
        if "network" in row and "post_processing" in row:
            row["ours"] = row["network"] + row["post_processing"]
    return list(found.values())


def _seconds(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"
