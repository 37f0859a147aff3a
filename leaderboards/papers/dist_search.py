"""Tables I and III of the DIST paper: searched and selected hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboards.base import Table
from leaderboards.broken import kept_going
from leaderboards.render import escape, table
from leaderboards.searches import read_search

SEARCHES = Path(str(files("leaderboards"))) / "scores" / "search"
"""Folder of published search results (`nucbench publish`)."""

SEARCHED = {
    "DIST": ("dist", "dist"),
    "U-Net (cross-entropy) + PP": ("unet-dist", "unet-dist-pp"),
    "FCN + PP": ("fcn8", "fcn-pp"),
    "Mask-RCNN": ("mask-rcnn", "masks"),
}
"""Row -> method and the variant whose post-processing is searched."""

RANGES = {
    "lr": ("learning rate", "1e-2 to 1e-6"),
    "weight_decay": ("weight decay", "5e-3 to 5e-6"),
    "features": ("n_feat", "16, 32, 64"),
    "p1": ("p1", "probability: 6 to 12; distance: 0 to 2"),
    "p2": ("p2", "probability: 0.5; distance: 0.5 to 1"),
    "dmc_training": ("DMC, training", "0.4 to 0.9"),
    "nmst_training": ("NMST, training", "0.5 to 0.9"),
    "dmc": ("DMC, inference", "0.4 to 0.9"),
    "nmst": ("NMST, inference", "0.5 to 0.9"),
}
"""Parameter in the published figures -> its name and range in table I."""

PLACES = {
    "lr": "lr",
    "weight_decay": "options.weight_decay",
    "features": "options.features",
    "nmst_training": "options.nmst",
    "nmst": "options.nmst",
}
"""Parameter -> setting of the search; the others are parameters of the post-processing."""

FITTED = {"dmc": "confidence"}
"""Parameter -> its name in the post-processing, if it differs."""

COLUMNS = (
    "method", "registry", "parameter", "range", "published", "ours", "dataset", "trials", "combinations", "score",
    "run", "reference",
)  # fmt: skip


class DistSearch(Table):
    """Hyper-parameters selected on validation images of Kumar (Naylor 2018, table III).

    Args:
        searches: Folder of ``<study>.json`` files until `look_in` sets others; None = the committed one.
    """

    name = "dist_search"
    title = "Selected hyper-parameters"
    caption = (
        "Hyper-parameters with the highest AJI on the validation images of Kumar: run `nucbench search "
        "dist-search.yaml` (`unet-dist-search.yaml`, `fcn-search.yaml`, `mask-rcnn-search.yaml`), then `nucbench "
        "publish` on the file that it names. Score: AJI on those images. A DMC for training is not among the settings. "
        "Published figures: Naylor 2018 (DIST), table III; ranges: table I."
    )
    published_table = "dist_search"

    def __init__(self, searches: Path | None = None) -> None:
        self._searches = [SEARCHES if searches is None else searches]

    def look_in(self, roots: Sequence[Path]) -> None:
        """Use the searches in the folders of stored results; the last folder wins if a study is in several."""
        self._searches = [root / "search" for root in roots]

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return one line per method, parameter and search.

        Args:
            scores: Not used: searches use validation images only.
            published: Published figures as returned by `leaderboards.literature.load_published`.

        Returns:
            `COLUMNS`: ``published`` and ``ours`` are values of ``parameter``; ``trials`` run of ``combinations``,
            ``score`` the best AJI on validation images, ``run`` the run that achieved it.

        Raises:
            DataError: If a search file is broken; the message names it.
        """
        facts = published[published["table"] == self.published_table]
        figures = {
            (m, k): (v, s) for m, k, v, s in facts[["method", "metric", "value", "source"]].itertuples(index=False)
        }
        paths = {path.name: path for folder in self._searches for path in folder.glob("*.json")}
        found = []
        for name in sorted(paths):
            with kept_going(self.problems):
                found.append(read_search(paths[name]))
        lines: list[dict[str, Any]] = []
        for title, (method, variant) in SEARCHED.items():
            for search in [each for each in found if each["method"] == method] or [{}]:
                for parameter, (_, span) in RANGES.items():
                    if (title, parameter) not in figures:
                        continue
                    value, source = figures[title, parameter]
                    about = {key: search.get(key) for key in ("dataset", "trials", "combinations", "score", "run")}
                    own = selected(search, variant, parameter)
                    row = {"method": title, "registry": method, "parameter": parameter, "range": span}
                    lines.append({**row, **about, "published": value, "ours": own, "reference": source})
        frame = pd.DataFrame(lines, columns=list(COLUMNS))
        frame[["dataset", "run"]] = frame[["dataset", "run"]].fillna("")
        floats = dict.fromkeys(("published", "ours", "score"), "float64")
        return frame.astype(floats | dict.fromkeys(("trials", "combinations"), "Int64"))

    def _rows(self, frame: pd.DataFrame) -> list[list[str]]:
        """Return the lines of the Markdown table."""
        rows = []
        for line in frame.to_dict("records"):
            tried = "" if pd.isna(line["trials"]) else f"{line['trials']} of {line['combinations']}"
            score = "" if pd.isna(line["score"]) else f"{line['score']:.3f}"
            cells = [line["method"], RANGES[line["parameter"]][0], line["range"]]
            values = ["" if pd.isna(line[key]) else f"{line[key]:g}" for key in ("published", "ours")]
            rows.append([*map(escape, cells), *values, tried, score])
        return rows

    def markdown(self, frame: pd.DataFrame) -> str:
        """Return one table: one line per method, parameter and search."""
        header = ["Method", "parameter", "range", "published", "ours", "trials", "AJI, validation"]
        return "\n\n".join([f"# {escape(self.title)}", self.caption, table(header, self._rows(frame))]) + "\n"


def selected(search: Mapping[str, Any], variant: str, parameter: str) -> float | None:
    """Return the value of a parameter selected by a search; None if the search has none.

    Args:
        search: Content of a search file; empty = no search.
        variant: Variant whose post-processing is used.
        parameter: Key of `RANGES`.
    """
    if parameter in PLACES:
        return search.get("settings", {}).get(PLACES[parameter])  # type: ignore[no-any-return]  # JSON
    return search.get("params", {}).get(variant, {}).get(FITTED.get(parameter, parameter))  # type: ignore[no-any-return]


__all__ = ["DistSearch", "selected"]
