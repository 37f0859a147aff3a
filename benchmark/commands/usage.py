"""Short usage errors: the messages of the parser name its types, not the remedy.

A command line that the parser rejected is read again here, word by word, and compared with the arguments of each
command.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, get_args, get_origin, get_type_hints

from postproc.errors import nearest

KINDS = {float: "a number", int: "a whole number", dict: "NAME VALUE pairs"}
"""Type -> description of the expected value."""

COMMON = ("--help", "-h", "--version", "--debug")
"""Options allowed before the command."""


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument of a command.

    Attributes:
        name: ``--flag`` or ``POSITIONAL``.
        hints: Allowed types of a value, or of the items of a list.
        switch: Whether it takes no value.
        several: Whether it takes any number of words.
        required: Whether it must be given.
    """

    name: str
    hints: tuple[Any, ...] = ()
    switch: bool = False
    several: bool = False
    required: bool = False

    @property
    def choices(self) -> list[str]:
        """Allowed values; empty = any."""
        return [str(name) for hint in self.hints if get_origin(hint) is Literal for name in get_args(hint)]

    def wrong(self, value: str) -> str:
        """Return the reason why a value is not allowed, or an empty string."""
        if choices := self.choices:
            text = f"{self.name} is {value!r}.{_near(value, choices)} Choices: {', '.join(choices)}."
            return "" if value in choices else text
        kinds = [get_origin(hint) or hint for hint in self.hints if hint is not type(None)]
        if any(_fits(value, kind) for kind in kinds):
            return ""
        wanted = " or ".join(KINDS[kind] for kind in kinds if kind in KINDS)
        example = f", for example {self.name}.NAME VALUE" * (dict in kinds)
        return f"{self.name} is {value!r}; give {wanted}{example}" if wanted else ""


def _fits(value: str, kind: Any) -> bool:
    if kind is dict:
        return value.startswith("{")
    try:
        return kind not in KINDS or math.isfinite(kind(value))
    except (ValueError, OverflowError):
        return False


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of a dataclass that is an option of a command.

    Attributes:
        name: Of the field.
        hint: Its type; of one that has choices, these.
        choices: Names that it takes; empty = any value of the type.
        default: Its value where the option is not given; None where `unset` gives it.
        unset: Gives the value where the option is not given.
        group: What the options of its dataclass begin with: ``slurm`` makes --slurm.NAME. Empty = nothing.
    """

    name: str
    hint: Any
    choices: tuple[str, ...]
    default: Any
    unset: Callable[[], Any] | None
    group: str = ""

    @property
    def flag(self) -> str:
        """The option; that of a switch that is on says ``--no-``."""
        flag = _flag(self.name, off=self.default is True)
        return f"--{self.group}.{flag[2:]}" if self.group else flag

    @property
    def destination(self) -> str:
        """Name under which the parser keeps the value."""
        return f"{self.group}_{self.name}" if self.group else self.name

    @property
    def metavar(self) -> str:
        """What stands for the value in the help."""
        return "{" + ",".join(self.choices) + "}" if self.choices else self.name.upper()


@dataclasses.dataclass(frozen=True)
class Settings:
    """A parameter of a command that is a dataclass, whose fields are options of their own.

    Attributes:
        kind: The dataclass.
        options: Those of its fields that the command has.
    """

    kind: Any
    options: tuple[Option, ...]

    def gather(self, given: dict[str, Any]) -> Any:
        """Take the options out of what was given, and put the dataclass together."""
        values = {option.name: given.pop(option.destination) for option in self.options}
        unset = {option.name: option.unset() for option in self.options if option.unset and values[option.name] is None}
        return self.kind(**{**values, **unset})


def settings_of(function: Callable[..., Any]) -> dict[str, Settings]:
    """Return the parameters of a command that are dataclasses.

    ``Annotated[Machine, ("data", "progress")]`` makes options of these fields alone; the others keep their defaults.
    The options of a dataclass with an attribute ``group`` begin with it.
    """
    found = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        kind, names = (hint.__origin__, hint.__metadata__[0]) if get_origin(hint) is Annotated else (hint, None)
        if dataclasses.is_dataclass(kind):
            options = tuple(option for option in _options(kind) if names is None or option.name in names)
            found[name] = Settings(kind, options)
    return found


def _options(kind: Any) -> list[Option]:
    hints, found = get_type_hints(kind), []
    for field in dataclasses.fields(kind):
        choices, unset = field.metadata.get("choices", ()), field.metadata.get("unset")
        hint = Literal[choices] if choices else hints[field.name]
        default = None if unset else field.default
        hint = hint if default is not None else Optional[hint]  # noqa: UP045  # made at run time
        found.append(Option(field.name, hint, choices, default, unset, getattr(kind, "group", "")))
    return found


def _flag(name: str, *, off: bool = False) -> str:
    """Return the option of a parameter: `from_` is --from, a switch that is on gets a --no- to turn it off."""
    return f"--{'no-' * off}{name.rstrip('_').replace('_', '-')}"


def takes(function: Callable[..., Any]) -> list[Argument]:
    """Return the arguments of a command."""
    hints = get_type_hints(function)
    found = [Argument("--help", switch=True)]
    settings = settings_of(function)
    for each in settings.values():
        found += [Argument(o.flag, get_args(o.hint) or (o.hint,), switch=o.hint is bool) for o in each.options]
    for name, parameter in inspect.signature(function).parameters.items():
        if name in settings:
            continue
        options = (
            get_args(hints[name]) if get_origin(hints[name]) not in (None, Literal, list, dict) else (hints[name],)
        )
        items = [get_args(option)[0] for option in options if get_origin(option) is list]
        required = parameter.default is inspect.Parameter.empty
        switch = hints[name] is bool
        flag = _flag(name, off=switch and parameter.default is True)
        flag = flag if parameter.kind is inspect.Parameter.KEYWORD_ONLY else name.upper()
        found.append(Argument(flag, tuple(items or options), switch, bool(items), required))
    return found


def explain(message: str, words: Sequence[str], commands: Mapping[str, Sequence[Argument]]) -> str:
    """Describe the error in a command line: the argument, its value, the choices and the nearest name.

    Args:
        message: Message of the parser, used if no error is found here.
        words: The command line.
        commands: Command -> its arguments.
    """
    at = next((k for k, word in enumerate(words) if not word.startswith("-")), None)
    if unknown := [word for word in words[:at] if word not in COMMON]:
        return f"nucbench has no option {unknown[0]}.{_near(unknown[0], COMMON)} See nucbench --help."
    if at is None:
        return f"a command is missing. Choices: {', '.join(commands)}. See nucbench --help."
    if words[at] not in commands:
        return f"unknown command {words[at]!r}.{_near(words[at], commands)} Choices: {', '.join(commands)}."
    return next(_faults(words[at], words[at + 1 :], commands[words[at]]), " ".join(message.split()))


def _faults(command: str, words: Sequence[str], known: Sequence[Argument]) -> Iterator[str]:
    """Yield the errors, word by word."""
    see = f"See nucbench {command} --help."
    flags = {each.name: each for each in known if each.name.startswith("--")}
    places = [each for each in known if each.name not in flags]
    rest, loose = list(words), []
    while rest:
        word = rest.pop(0)
        if not _is_flag(word):
            loose.append(word)
            continue
        name, given, value = word.partition("=")
        free = flags.get(name.partition(".")[0])
        if name not in flags and not (free and any(get_origin(hint) is dict for hint in free.hints)):
            choices = [flag for flag in flags if "." in name and flag.startswith(f"{name.partition('.')[0]}.")]
            end = f"Choices: {', '.join(choices)}." if choices else see
            yield f"nucbench {command} has no option {name}.{_near(name, choices or flags)} {end}"
            continue
        flag = flags.get(name, Argument(name))
        if flag.switch:
            if given:
                yield f"{name} is a switch and takes no value, not {value!r}"
            continue
        values = [value] if given else []
        while not given and rest and not _is_flag(rest[0]) and (flag.several or not values):
            values.append(rest.pop(0))
        if not values:
            yield f"{name} needs a value. {see}"
        yield from filter(None, map(flag.wrong, values))
    missing = [place.name for place in places[len(loose) :] if place.required]
    for place in places:
        values, loose = (loose, []) if place.several else (loose[:1], loose[1:])
        yield from filter(None, map(place.wrong, values))
    if loose:
        yield f"nucbench {command} does not take {loose[0]!r}. {see}"
    given_flags = {word.partition("=")[0] for word in words}
    missing += [name for name, flag in flags.items() if flag.required and name not in given_flags]
    if missing:
        yield f"nucbench {command} needs {' and '.join(missing)}. {see}"


def _is_flag(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not _fits(word, float)


def _near(name: str, choices: Iterable[str]) -> str:
    known = list(choices)
    near = [choice for choice in known if choice.startswith(name)]
    near = near or nearest(name, known)
    return f" Did you mean {near[0]}?" if near else ""


__all__ = ["Argument", "Option", "Settings", "explain", "settings_of", "takes"]
