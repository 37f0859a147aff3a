"""What is wrong with a command line, in a line or two: the parser's own messages name its types, not the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from postproc.errors import nearest

KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "dict": "NAME VALUE pairs"}
"""Type -> what the user is to give."""


def explain(message: str, words: Sequence[str], flags: Mapping[str, Iterable[str]]) -> str:
    """Say what is wrong with a command line: the argument, its value, the choices and the nearest name.

    Args:
        message: Of the parser (argparse or jsonargparse).
        words: The command line.
        flags: Command -> its options, each with its dashes.
    """
    command = next((word for word in words if word in flags), "")
    for part in (_unknown_argument, _unknown_command, _missing, _no_value, _wrong_value):
        if text := part(message, command, flags):
            return text
    return " ".join(message.split())


def _unknown_argument(message: str, command: str, flags: Mapping[str, Iterable[str]]) -> str:
    found = re.match(r"unrecognized arguments: (\S+)", message)
    if not found:
        return ""
    word = found[1].split("=")[0]
    if not word.startswith("-"):
        return f"nucbench {command} does not take {word!r}. See nucbench {command} --help."
    return (
        f"nucbench {command} has no option {word}.{_near(word, flags.get(command, ()))} See nucbench {command} --help."
    )


def _unknown_command(message: str, command: str, flags: Mapping[str, Iterable[str]]) -> str:
    found = re.search(r"argument COMMAND: invalid choice: '(.*?)' \(", message)
    if found:
        return f"unknown command {found[1]!r}.{_near(found[1], flags)} Choices: {', '.join(flags)}."
    if 'expected "subcommand"' in message:
        return f"a command is missing. Choices: {', '.join(flags)}. See nucbench --help."
    return ""


def _missing(message: str, command: str, flags: Mapping[str, Iterable[str]]) -> str:
    found = re.match(r"the following arguments are required: (.+)", message)
    if not found:
        return ""
    names = [name.strip().split(".")[-1].upper() for name in found[1].split(",")]
    return f"nucbench {command} needs {' and '.join(names)}. See nucbench {command} --help."


def _no_value(message: str, command: str, flags: Mapping[str, Iterable[str]]) -> str:
    found = re.match(r"argument (\S+): expected (?:one|at least one) argument", message)
    if found:
        return f"{found[1]} needs a value. See nucbench {command} --help."
    found = re.match(r"argument (\S+): ignored explicit argument '(.*)'", message)
    return f"{found[1]} is a switch and takes no value, not {found[2]!r}" if found else ""


def _wrong_value(message: str, command: str, flags: Mapping[str, Iterable[str]]) -> str:
    keys = re.findall(r'Parser key "([\w.]+)"', message)
    if not keys:
        return ""
    name = f"--{'.'.join(keys).replace('_', '-')}"
    if name not in flags.get(command, ()) and len(keys) == 1:
        name = keys[0].upper()  # a positional argument
    unknown = re.search(r"Option '(\w+)' is not accepted", message)
    if unknown:
        known = [flag for flag in flags.get(command, ()) if flag.startswith(f"{name}.")]
        given = f"{name}.{unknown[1]}"
        return f"nucbench {command} has no option {given}.{_near(given, known)} Choices: {', '.join(known)}."
    values = re.findall(r"(?:Got|Given) value: (.*)$", message, re.MULTILINE)
    value = values[0] if values else ""
    literals = re.search(r"typing\.Literal\[(.*?)\]", message)
    if literals:
        choices = re.findall(r"'([^']*)'", literals[1])
        return f"{name} is {value!r}.{_near(value, choices)} Choices: {', '.join(choices)}."
    kinds = [kind for kind in re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", message) if kind != "NoneType"]
    wanted = " or ".join(dict.fromkeys(KINDS.get(kind, kind) for kind in kinds)) or "something else"
    return f"{name} is {value!r}; give {wanted}" + (f", for example {name}.NAME VALUE" * ("dict" in kinds))


def _near(name: str, choices: Iterable[str]) -> str:
    known = list(choices)
    near = [choice for choice in known if choice.startswith(name)]
    near = near or nearest(name, known)
    return f" Did you mean {near[0]}?" if near else ""


__all__ = ["explain"]
