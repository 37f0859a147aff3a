"""Write what is generated in README.md and docs/ from code, cards and tables: ``python -m benchmark.commands.readme``.

These are the blocks between ``<!-- name -->`` and ``<!-- end -->`` of the files in `FILLED`, and all of `pages`. It
also writes `CARDS`, from which `nucbench list methods` reads the cards without importing torch.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmark.commands.cli import COMMANDS
from benchmark.commands.docs_cards import GENERATED, dataset_page, doc_link, method_page
from benchmark.commands.docs_commands import command_page, commands_index
from benchmark.commands.docs_reproducing import reproducing_page
from benchmark.commands.listing import CARDS, Summary
from benchmark.commands.readme_results import results_table
from benchmark.registry import DATASETS, INSTALLED, METHODS, dataset_class, method_class

README = Path(__file__).parents[2] / "README.md"
DOCS = README.parent / "docs"
FILLED = (README, DOCS / "results.md", DOCS / "methods" / "index.md", DOCS / "datasets" / "index.md")
"""Files written by hand that have generated blocks."""


def methods_table() -> str:
    """Return the Markdown table of methods."""
    rows = ["| method | rows in tables | what it is | paper |", "|---|---|---|---|"]
    for name in own_methods():
        card = method_class(name).card
        titles = ", ".join(variant.title for variant in card.variants)
        rows.append(f"| [`{name}`]({name}.md) | {titles} | {card.summary} | [{card.paper.split(',')[0]}]({card.url}) |")
    return "\n".join(rows)


def datasets_table() -> str:
    """Return the Markdown table of datasets."""
    heads = ("dataset", "images", "nuclei", "types", "magnification", "annotation", "source")
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in own_datasets():
        card = dataset_class(name).card
        images = " + ".join(f"{count} {split}" for split, count in card.images.items())
        magnification = f"{card.magnification:g}x" if card.magnification else "mixed"
        nuclei = "" if card.nuclei is None else f"{card.nuclei:,}"
        source = (
            "" if " " in card.url else f"[{'guide' if card.url.startswith('docs/') else 'site'}]({doc_link(card.url)})"
        )
        cells = (f"[`{name}`]({name}.md)", images, nuclei, str(len(card.types) or ""), magnification, card.annotation)
        rows.append(f"| {' | '.join(cells)} | {source} |")
    return "\n".join(rows)


def cards() -> str:
    """Return the content of `CARDS`."""
    summaries = {name: Summary.of(method_class(name).card) for name in own_methods()}
    return json.dumps({name: each._asdict() for name, each in summaries.items()}, indent=1) + "\n"


def own_methods() -> list[str]:
    """Return the methods of nucbench, without those of other packages."""
    return [name for name in METHODS if f"methods.{name}" not in INSTALLED]


def own_datasets() -> list[str]:
    """Return the datasets of nucbench, without those of other packages."""
    return [name for name in DATASETS if f"datasets.{name}" not in INSTALLED]


def pages() -> dict[str, str]:
    """Return the generated pages of the documentation: path in `DOCS` -> content."""
    made = {f"methods/{name}.md": method_page(name) for name in own_methods()}
    made |= {f"datasets/{name}.md": dataset_page(name) for name in own_datasets()}
    made |= {f"commands/{name}.md": command_page(name) for name in COMMANDS}
    return made | {"commands/index.md": commands_index(), "reproducing.md": reproducing_page()}


def generated() -> list[str]:
    """Return the generated pages that exist, also those of methods that are gone."""
    found = (path for path in DOCS.rglob("*.md") if path.read_text(encoding="utf-8").startswith(GENERATED))
    return sorted(path.relative_to(DOCS).as_posix() for path in found)


def fill(text: str) -> str:
    """Return a file of `FILLED` with its generated blocks updated."""
    for name, table in (("methods", methods_table), ("datasets", datasets_table), ("results", results_table)):
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if pattern.search(text):
            block = f"{table()}\n"
            text = pattern.sub(lambda found, block=block: found[1] + block + found[2], text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    CARDS.write_text(cards(), encoding="utf-8")
    for file in FILLED:
        file.write_text(fill(file.read_text(encoding="utf-8")), encoding="utf-8")
    written = pages()
    for name in set(generated()) - set(written):
        (DOCS / name).unlink()
    for name, content in written.items():
        (DOCS / name).write_text(content, encoding="utf-8")
