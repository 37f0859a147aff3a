"""Options and settings of a run as a single line of text, ``key=value, ...``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def describe(options: Mapping[str, Any]) -> str:
    """Return options as ``key=value, ...`` in alphabetical order, texts unquoted."""
    return ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value, sort_keys=True)}"
        for key, value in sorted(options.items())
    )


def split_options(text: str) -> dict[str, str]:
    """Parse the output of `describe` into a dictionary; values remain text."""
    pairs = (part.partition("=") for part in re.split(r", (?=\w+=)", text) if part)
    return {key: value for key, _, value in pairs}


def option(text: str, key: str, default: str) -> str:
    """Return the value of one key in the output of `describe`; `default` if the key is absent."""
    return split_options(text).get(key, default)


__all__ = ["describe", "option", "split_options"]
