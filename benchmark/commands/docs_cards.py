"""Pages of the documentation that come from the cards of methods and datasets."""

from __future__ import annotations

from benchmark.commands.examples import EXAMPLES
from benchmark.options import option_defaults, option_texts
from benchmark.registry import dataset_class, method_class
from datamodules.reading.card import DatasetCard, Download
from models.base.recipe import describe

GENERATED = "<!-- generated from the code: python -m benchmark.commands.readme -->\n"
"""First line of every generated page."""


def method_page(name: str) -> str:
    """Return the Markdown page of a method."""
    kind = method_class(name)
    card = kind.card
    facts = [f"- Tasks: {', '.join(card.tasks)}", f"- Training needs: {_needs(card.needs, card.trained)}"]
    if card.trained:
        facts.append(f"- Training: {describe(kind.recipe)}")
    if card.pretrained:
        facts.append(f"- Initial weights: {card.pretrained}")
    parts = [f"# {card.title}", card.summary, f"[{card.paper}]({card.url})", f"Recipe. {card.recipe}", "\n".join(facts)]
    rows = ["| row | key |", "|---|---|", *(f"| {each.title} | `{each.key}` |" for each in card.variants)]
    parts += ["## Rows in tables", "\n".join(rows)]
    if options := option_defaults(kind):
        texts = option_texts(kind)
        rows = ["| option | default | meaning |", "|---|---|---|"]
        rows += [f"| `--options.{key}` | `{value}` | {texts[key]} |" for key, value in options.items()]
        parts += ["## Options", "\n".join(rows)]
    if card.deviations:
        parts += ["## Deviations from the paper", "\n".join(f"- {text}" for text in card.deviations)]
    parts += ["## Use", f"```\nnucbench run {name} {_trains_on(card.needs)}\nnucbench list methods {name}\n```"]
    return _page(parts)


def dataset_page(name: str) -> str:
    """Return the Markdown page of a dataset."""
    card = dataset_class(name).card
    source = "" if " " in card.url or not card.url else f"[{card.title}]({doc_link(card.url)})"
    parts = [f"# {card.title}", card.summary, "\n".join(_facts(card, source))]
    parts += ["## Files", f"In the folder `data/{name}`:", f"```\n{card.layout}\n```"]
    way = [f"nucbench prepare {name}", f"nucbench prepare {name} --synthetic --data try    # a stand-in in this layout"]
    parts += ["## Get it", "```\n" + "\n".join(way[1:] if card.generated else way) + "\n```"]
    places = {"downloads": f"data/{name}/downloads", "folder": f"data/{name}"}
    if card.downloads:
        parts.append("\n".join(_download(each) for each in card.downloads))
    if card.steps:
        lead = "If a download fails, by hand:" if card.downloads else "By hand:"
        steps = [each.format(**places) for each in card.steps]
        parts += [lead, "\n".join(f"{number}. {text}" for number, text in enumerate(steps, start=1))]
    if card.notes:
        parts += ["## Notes", "\n".join(f"- {text}" for text in card.notes)]
    return _page(parts)


def doc_link(url: str) -> str:
    """Return a link of a card as seen from a folder of ``docs``."""
    return f"../{url.removeprefix('docs/')}" if url.startswith("docs/") else url


def examples(command: str) -> str:
    """Return the examples of a command as a code block."""
    return "```\n" + "\n".join(EXAMPLES[command]) + "\n```"


def _facts(card: DatasetCard, source: str) -> list[str]:
    images = ", ".join(f"{count} {split}" for split, count in card.images.items())
    scale = f"{card.magnification:g}x" if card.magnification else "as each image states, or its description"
    facts = [
        ("Source", source),
        ("Citation", card.citation),
        ("Licence", card.licence),
        ("Images", images),
        ("Nuclei", "" if card.nuclei is None else f"{card.nuclei:,}"),
        ("Types", ", ".join(card.types)),
        ("Annotation", card.annotation),
        ("Magnification", scale),
        ("Microns per pixel", "" if card.mpp is None else f"{card.mpp:g}"),
        ("Radius of F_d", f"{card.radius:g} px"),
    ]
    return [f"- {name}: {value}" for name, value in facts if value]


def _download(each: Download) -> str:
    size = "" if each.size is None else f", {each.size:,} bytes"
    source = f" Source: {each.source}." if each.source else ""
    return f"- [{each.file}]({each.url}){size}, {each.checksum or 'no published checksum'}.{source}"


def _needs(needs: str, trained: bool) -> str:
    if not trained:
        return "nothing, there is no training"
    return {"instances": "outlines of nuclei", "points": "centres of nuclei", "none": "images only"}[needs]


def _trains_on(needs: str) -> str:
    return {"points": "points-csv --protocol strict"}.get(needs, "kumar --evaluate kumar tnbc")


def _page(parts: list[str]) -> str:
    return GENERATED + "\n" + "\n\n".join(parts) + "\n"


__all__ = ["GENERATED", "dataset_page", "doc_link", "examples", "method_page"]
