"""Reference of the command line, from the parser."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action

from benchmark.commands.cli import COMMANDS, command_parser
from benchmark.commands.docs_cards import GENERATED, examples

LEAD = """\
`nucbench COMMAND --help` prints the same. Exit status: 0 success; 1 data are wrong or missing, or a part of the inputs
failed; 2 the command line or a sweep or search file is wrong, and nothing has been written.
"""


def command_page(name: str) -> str:
    """Return the Markdown page of a command."""
    parser = command_parser(name, COMMANDS[name])
    actions = [each for each in parser._actions if each.dest not in ("help", "config") and each.help != SUPPRESS]
    parts = [f"# nucbench {name}", parser.description or "", examples(name)]
    for title, chosen in (
        ("Arguments", [each for each in actions if not each.option_strings]),
        ("Options", [each for each in actions if each.option_strings]),
    ):
        if chosen:
            rows = ["| name | default | meaning |", "|---|---|---|", *map(_row, chosen)]
            parts += [f"## {title}", "\n".join(rows)]
    return GENERATED + "\n" + "\n\n".join(parts) + "\n"


def commands_index() -> str:
    """Return the Markdown page that lists the commands."""
    rows = ["| command | what it does |", "|---|---|"]
    for name, function in COMMANDS.items():
        summary = (command_parser(name, function).description or "").partition("\n\n")[0]
        rows.append(f"| [`{name}`]({name}.md) | {_cell(summary)} |")
    return f"{GENERATED}\n# Commands\n\n{LEAD}\n" + "\n".join(rows) + "\n"


def _row(action: Action) -> str:
    shown = action.option_strings[-1] if action.option_strings else action.dest.upper()
    if action.option_strings and action.nargs != 0:
        value = action.metavar if isinstance(action.metavar, str) else action.dest.rpartition(".")[2].upper()
        shown += f" {value}"
    default = action.default
    stated = action.nargs != 0 and default not in (None, "", SUPPRESS) and not (action.required and not default)
    return f"| `{_cell(shown)}` | {f'`{default}`' if stated else ''} | {_cell(action.help or '')} |"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


__all__ = ["command_page", "commands_index"]
