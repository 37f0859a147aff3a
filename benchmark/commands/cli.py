"""The `nucbench` command: typed functions of `benchmark.commands`, one per subcommand."""

from __future__ import annotations

import dataclasses
import inspect
import os
import signal
import sys
import traceback
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser
from jsonargparse import Namespace as Arguments

from benchmark.commands import predicting, reporting, setting_up, tiling, training
from benchmark.commands.usage import explain, fields_of, settings_of, takes
from benchmark.host import signals
from benchmark.host.allocator import use_huge_pages
from benchmark.host.faults import in_words
from benchmark.registry import DATASETS, METHODS, TABLES
from postproc.errors import ConfigError, InputWarning, NucbenchError

COMMANDS: dict[str, Callable[..., int | None]] = {
    "run": training.run,
    "sweep": training.sweep,
    "search": training.search,
    "predict": predicting.predict,
    "score": predicting.score,
    "evaluate": predicting.evaluate,
    "export": predicting.export,
    "models": predicting.models,
    "leaderboard": reporting.leaderboard,
    "plot": reporting.plot,
    "report": reporting.report,
    "publish": reporting.publish,
    "list": reporting.list_,
    "prepare": setting_up.prepare,
    "tiles": tiling.tiles,
    "speed": setting_up.speed,
    "demo": setting_up.demo,
}
"""Subcommand -> function; the function's signature and docstring are its options and help."""

EPILOG = f"""\
methods:  {", ".join(METHODS)}
datasets: {", ".join(DATASETS)}
tables:   {", ".join(TABLES)}

NUCBENCH_DATA and NUCBENCH_RUNS name the folders of datasets and of runs where --data and --runs are not given."""


_FORMAT = warnings.formatwarning


def build_parser() -> ArgumentParser:
    """Return the parser of the whole command line; imports nothing heavy."""
    parser = ArgumentParser(
        prog="nucbench",
        description="Benchmark suite for nuclei segmentation, detection and classification in histopathology.",
        formatter_class=_formatter(),
        epilog=EPILOG,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nucbench {version('nucbench')}")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    subcommands = parser.add_subcommands(required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        subcommands.add_subcommand(name, _subparser(function), help=_summary(function))
    return parser


def _formatter() -> Any:
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        """Keeps the line breaks of descriptions."""

    return Formatter


def _summary(function: Callable[..., Any]) -> str:
    return parse_docstring(function.__doc__ or "").short_description or ""


def _subparser(function: Callable[..., Any]) -> ArgumentParser:
    """Build the parser of one subcommand from the signature and docstring of its function.

    Positional parameters become positional arguments, keyword-only ones flags; lists take several words
    (``--evaluate kumar tnbc.all``), booleans are switches.
    """
    doc = parse_docstring(function.__doc__ or "")
    text = "\n\n".join(part for part in (doc.short_description, doc.long_description) if part)
    parser = ArgumentParser(
        description=text, formatter_class=_formatter(), epilog=EPILOG, exit_on_error=False, allow_abbrev=False
    )
    hints = get_type_hints(function)
    helps = {param.arg_name: param.description for param in doc.params}
    dataclass_settings = settings_of(function)
    for kind in dataclass_settings.values():
        _add_settings(parser, kind)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in dataclass_settings:
            continue
        settings: dict[str, Any] = {"help": helps[name]}
        flag = f"--{name.rstrip('_').replace('_', '-')}"  # `from_` is the flag --from
        item = _item_type(hints[name])
        required = parameter.default is inspect.Parameter.empty
        if hints[name] is not bool:
            settings["type"] = item or hints[name]
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            if item:
                settings["nargs"] = "+" if required else "*"
            elif not required:
                settings["nargs"] = "?"
            if not required:
                settings["default"] = parameter.default
            parser.add_argument(name, **settings)
            continue
        if hints[name] is bool:
            action = "store_false" if parameter.default else "store_true"
            flag = f"--no-{flag[2:]}" if parameter.default else flag
            parser.add_argument(flag, dest=name, action=action, help=helps[name])
            continue
        if item:
            settings["nargs"] = "+"
        settings.update({"required": True} if required else {"default": parameter.default})
        parser.add_argument(flag, dest=name, **settings)
    return parser


def _add_settings(parser: ArgumentParser, kind: Any) -> None:
    """Add an option for each field of a dataclass; the help is that of its docstring's attributes."""
    helps = {param.arg_name: param.description for param in parse_docstring(kind.__doc__ or "").params}
    for field, hint in fields_of(kind):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, dest=field.name, type=hint, default=field.default, help=helps[field.name])


def _gathered(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Put the fields of dataclasses together again."""
    rest = dict(given)
    made = {
        name: kind(**{field.name: rest.pop(field.name) for field in dataclasses.fields(kind)})
        for name, kind in settings_of(function).items()
    }
    return {name: _with_folders(name, value) for name, value in rest.items()} | made


def _item_type(hint: Any) -> Any:
    """Return T of ``list[T]`` or ``list[T] | None``, and None for any other hint."""
    for option in (hint, *get_args(hint)):
        if getattr(option, "__origin__", None) is list:
            return get_args(option)[0]
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0 done, 1 failed, 2 wrong usage or configuration."""
    use_huge_pages()
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    try:
        parsed = parser.instantiate(parser.parse_args(words))
    except ArgumentError as error:
        if "--debug" in words:
            traceback.print_exc()
        known = {name: takes(function) for name, function in COMMANDS.items()}
        print(f"nucbench: error: {explain(error.message, words, known)}", file=sys.stderr)
        return 2
    function = COMMANDS[parsed.subcommand]
    given = parsed[parsed.subcommand]
    given = given.as_dict() if isinstance(given, Arguments) else dict(given)
    signals.listen()
    warnings.formatwarning = _in_one_line
    try:
        return function(**_gathered(function, given)) or 0
    except NucbenchError as error:
        if parsed.debug:
            traceback.print_exc()
        print(f"nucbench: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except (KeyboardInterrupt, signals.Stopped) as error:
        stop = error if isinstance(error, signals.Stopped) else signals.Stopped(signal.SIGINT)
        print(f"nucbench: {stop}; the same command goes on where this one stopped", file=sys.stderr)
        return stop.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        text = in_words(error)
        if text is None or parsed.debug:
            raise
        print(f"nucbench: error: {text}", file=sys.stderr)
        return 1


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning; one about the user's files is for people and leaves out the place in the code."""
    if issubclass(category, InputWarning):
        return f"nucbench: warning: {message}\n"
    return _FORMAT(message, category, filename, lineno, line)


def _with_folders(name: str, value: Any) -> Any:
    """Fill in the folders of datasets and runs from the environment."""
    if value is None and name in ("data", "runs"):
        return Path(os.environ.get(f"NUCBENCH_{name.upper()}", name))
    return value


if __name__ == "__main__":
    sys.exit(main())
