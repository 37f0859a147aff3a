"""Write the tables of README.md from cards and result tables: ``python -m benchmark.commands.readme``.

It also writes `CARDS`, from which `nucbench list methods` reads the cards without importing torch.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmark.commands.listing import CARDS, Summary
from benchmark.commands.readme_results import results_table
from benchmark.registry import DATASETS, INSTALLED, METHODS, dataset_class, method_class

README = Path(__file__).parents[2] / "README.md"


def methods_table() -> str:
    """Return the Markdown table of methods."""
    rows = ["| method | rows in tables | what it is | paper |", "|---|---|---|---|"]
    for name in _own_methods():
        card = method_class(name).card
        titles = ", ".join(variant.title for variant in card.variants)
        rows.append(f"| `{name}` | {titles} | {card.summary} | [{card.paper.split(',')[0]}]({card.url}) |")
    return "\n".join(rows)


def datasets_table() -> str:
    """Return the Markdown table of datasets."""
    rows = ["| dataset | images | nuclei | types | magnification | annotation |", "|---|---|---|---|---|---|"]
    for name in DATASETS:
        card = dataset_class(name).card
        images = " + ".join(f"{count} {split}" for split, count in card.images.items())
        magnification = f"{card.magnification:g}x" if card.magnification else "mixed"
        nuclei = "" if card.nuclei is None else f"{card.nuclei:,}"
        title = f"`{name}`" if " " in card.url else f"[`{name}`]({card.url})"  # a command is not an address
        rows.append(
            f"| {title} | {images} | {nuclei} | {len(card.types) or ''} | {magnification} | {card.annotation} |"
        )
    return "\n".join(rows)


def cards() -> str:
    """Return the content of `CARDS`."""
    summaries = {name: Summary.of(method_class(name).card) for name in _own_methods()}
    return json.dumps({name: each._asdict() for name, each in summaries.items()}, indent=1) + "\n"


def _own_methods() -> list[str]:
    return [name for name in METHODS if f"methods.{name}" not in INSTALLED]


def fill(text: str) -> str:
    """Return the README with its generated parts updated."""
    tables = {"methods": methods_table(), "datasets": datasets_table(), "results": results_table()}
    for name, table in tables.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        text = pattern.sub(lambda found, table=table: found[1] + table + found[2], text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    CARDS.write_text(cards(), encoding="utf-8")
    README.write_text(fill(README.read_text(encoding="utf-8")), encoding="utf-8")
