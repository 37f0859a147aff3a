"""Read YAML and JSON files with bounds on size, depth and expanded references."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from postproc.errors import NucbenchError, one_line, short

LARGEST = 1_000_000
"""Largest YAML file that is read, in bytes; those of this project have at most 10,000."""

LARGEST_JSON = 16_000_000
"""Largest JSON file that is read, in bytes; a stored run has far fewer, including all figures of its tuning."""

DEEPEST = 20
"""Maximum levels of nesting; a sweep has five."""

MOST_NODES = 50_000
"""Maximum number of values of a YAML file; referenced values (``*name``) count each time."""


def read_yaml(path: Path, error: type[NucbenchError]) -> Any:
    """Read a YAML file; numbers, booleans and null follow YAML 1.2, where ``1e-3`` is a number.

    Args:
        path: The file.
        error: Class of the error.

    Raises:
        NucbenchError: An `error` of one line, if the file is missing, too large, not YAML, has a duplicate key or a
            tag, or exceeds the bounds on levels or values.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise error(f"{path} is larger than {LARGEST:,} bytes, too large for its kind")
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except OSError as wrong:
        raise error(f"cannot read {path}: {wrong.strerror}") from None
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        raise error(f"{path}: not readable as YAML{line}: {one_line(wrong.problem or wrong.context or '')}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, OverflowError) as wrong:
        raise error(f"{path}: not readable as YAML: {one_line(str(wrong))}") from None


def read_json_object(
    path: Path, error: type[NucbenchError], remedy: str = "", largest: int = LARGEST_JSON
) -> dict[str, Any]:
    """Read a JSON file that contains an object, with the arguments of `read_json`.

    Raises:
        NucbenchError: A one-line `error`, as `read_json`, also if the content is not an object.
    """
    content = read_json(path, error, remedy)
    if not isinstance(content, dict):
        raise error(f"{path} holds {short(content)}, expected an object. {remedy}".rstrip())
    return content


def read_json(path: Path, error: type[NucbenchError], remedy: str = "", largest: int = LARGEST_JSON) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        error: Class of the error.
        remedy: Remedy for a broken file, for the message.
        largest: Largest file that is read, in bytes.

    Raises:
        NucbenchError: A one-line `error`, if the file is missing, too large, nested too deeply or not JSON.
    """
    try:
        if path.stat().st_size > largest:
            raise error(f"{path} is larger than {largest:,} bytes, too large for its kind. {remedy}".rstrip())
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as wrong:
        raise error(f"cannot read {path}: {wrong.strerror}. {remedy}".rstrip()) from None
    except RecursionError:
        raise error(f"cannot read {path}: it is nested too deeply. {remedy}".rstrip()) from None
    except ValueError as wrong:
        raise error(f"cannot read {path}: not readable as JSON ({one_line(str(wrong))}). {remedy}".rstrip()) from None


class _Loader(yaml.SafeLoader):
    """Safe loader with the scalars of YAML 1.2's core schema, without duplicate keys, within bounds."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # as declared by PyYAML

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, within the bounds."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if self._depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST} levels", problem_mark=event.start_mark)
        known = self.anchors.get(event.anchor) if isinstance(event, yaml.AliasEvent) else None
        if known is not None and id(known) not in self._sizes:
            raise yaml.MarkedYAMLError(problem="a value refers to itself", problem_mark=event.start_mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and id(node) not in self._sizes:
            size = 1 + sum(self._sizes[id(child)] for child in _children(node))
            if size > MOST_NODES:
                raise yaml.MarkedYAMLError(problem=f"more than {MOST_NODES:,} values", problem_mark=_mark(node))
            self._sizes[id(node)] = size
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping whose keys differ."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem="a key must be a name or number", problem_mark=_mark(key_node))
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {short(key)} occurs twice", problem_mark=_mark(key_node))
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _mark(node: yaml.Node) -> Any:
    return node.start_mark


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
)  # fmt: skip
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 16) if text.startswith("0x") else int(text)  # 010 is ten, not eight


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


__all__ = ["DEEPEST", "LARGEST", "LARGEST_JSON", "MOST_NODES", "read_json_object", "read_yaml"]
