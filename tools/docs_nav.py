"""Hook of mkdocs: adds the pages of all methods, datasets and commands to the navigation, after their index."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Extend each list of the navigation that consists of ``FOLDER/index.md``."""
    _extend(config["nav"], Path(config["docs_dir"]))
    return config


def _extend(entries: list[Any], docs: Path) -> None:
    for entry in entries:
        for children in entry.values() if isinstance(entry, dict) else ():
            if not isinstance(children, list):
                continue
            if len(children) == 1 and str(children[0]).endswith("/index.md"):
                folder = docs / Path(children[0]).parent
                pages = sorted(path for path in folder.glob("*.md") if path.stem != "index")
                children += [{path.stem: path.relative_to(docs).as_posix()} for path in pages]
            else:
                _extend(children, docs)
