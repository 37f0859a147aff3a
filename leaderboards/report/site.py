"""Pages of a report from templates; all inserted values are escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(str(files("leaderboards.report")))
"""Folder of templates and assets."""


class Site:
    """Writer of pages in a folder.

    Args:
        out: Root of the report.
        tables: Tables of the report with their titles, for the menu.
    """

    def __init__(self, out: Path, tables: Mapping[str, str]) -> None:
        self.out = out
        self._templates = Environment(
            loader=FileSystemLoader([HERE / "templates", HERE / "assets"]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._templates.globals["menu"] = {f"tables/{name}.html": title for name, title in tables.items()}

    def write(self, page: str, template: str, **context: Any) -> None:
        """Write a page.

        Args:
            page: File from the root of the report.
            template: Its template.
            **context: Values for the template; ``root`` (relative path to the root) and ``page`` are added.
        """
        text = self._templates.get_template(template).render(root="../" * page.count("/"), page=page, **context)
        self.add(page, text)

    def add(self, file: str, text: str) -> None:
        """Write any text file."""
        path = self.out / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def facts(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the items of an object as (key, text) in order; keys of nested objects are joined by dots."""
    found: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            found += facts(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", plain(value)))
    return found


def plain(value: Any) -> str:
    """Return a value of a JSON file as readable text."""
    if value is None or value in ({}, []):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        return ", ".join(plain(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value)


__all__ = ["HERE", "Site", "facts", "plain"]
