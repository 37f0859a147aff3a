"""The `nucbench` command: typed functions of `benchmark.commands`, one per subcommand."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import traceback
import warnings
from argparse import Action, ArgumentError
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, get_args, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser
from jsonargparse import Namespace as Arguments

from benchmark.commands import looking, predicting, reporting, setting_up, tiling, training
from benchmark.commands.examples import EXAMPLES
from benchmark.commands.usage import Settings, explain, settings_of, takes
from benchmark.host import signals
from benchmark.host.faults import in_words
from benchmark.host.machine import folder
from benchmark.host.processes import start_process
from benchmark.registry import DATASETS, METHODS, TABLES
from postproc.errors import ConfigError, InputWarning, NucbenchError

COMMANDS: dict[str, Callable[..., int | None]] = {
    "run": training.run,
    "sweep": training.sweep,
    "search": training.search,
    "predict": predicting.predict,
    "look": looking.look,
    "score": predicting.score,
    "evaluate": predicting.evaluate,
    "export": predicting.export,
    "adopt": predicting.adopt,
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
    "doctor": setting_up.doctor,
}
"""Subcommand -> function; the function's signature and docstring are its options and help."""

EPILOG = f"""\
methods:  {", ".join(METHODS)}
datasets: {", ".join(DATASETS)}
tables:   {", ".join(TABLES)}

NUCBENCH_DATA and NUCBENCH_RUNS set the folders of datasets and runs if --data and --runs are not given."""


_FORMAT = warnings.formatwarning
_TOLD: set[str] = set()
"""Warnings about the user's files that this command has printed."""


def build_parser(commands: Iterable[str] = tuple(COMMANDS)) -> ArgumentParser:
    """Return the parser of the command line, without heavy imports.

    Args:
        commands: Commands that it knows. Building all takes ten times longer than the one that is called.
    """
    parser = ArgumentParser(
        prog="nucbench",
        description="Benchmark suite for nuclei segmentation, detection and classification in histopathology.",
        formatter_class=_formatter(),
        epilog=EPILOG,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nucbench {version('nucbench')}")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of errors.")
    subcommands = parser.add_subcommands(required=True, metavar="COMMAND")
    for name in commands:
        subcommands.add_subcommand(name, command_parser(name, COMMANDS[name]), help=_summary(COMMANDS[name]))
    return parser


def _named(words: Sequence[str]) -> Iterable[str]:
    """Return the command that a command line calls; all commands if it calls none, or asks for help on all."""
    first = next((word for word in words if word != "--debug"), "")
    return (first,) if first in COMMANDS else COMMANDS


def _formatter() -> Any:
    from argparse import SUPPRESS, RawDescriptionHelpFormatter

    from jsonargparse import DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        """Keeps the line breaks of descriptions, and names defaults but not types."""

        def _get_help_string(self, action: Action) -> str:
            has_default = action.nargs != 0 and action.default not in (None, "", SUPPRESS)
            return (action.help or "") + " (default: %(default)s)" * has_default

    return Formatter


def _summary(function: Callable[..., Any]) -> str:
    return parse_docstring(function.__doc__ or "").short_description or ""


def command_parser(command: str, function: Callable[..., Any]) -> ArgumentParser:
    """Build the parser of one subcommand from the signature and docstring of its function.

    Positional parameters become positional arguments, keyword-only parameters become flags, lists take several words
    (``--evaluate kumar tnbc.all``) and booleans are switches.
    """
    doc = parse_docstring(function.__doc__ or "")
    text = "\n\n".join(part for part in (doc.short_description, doc.long_description) if part)
    examples = "\n".join(("examples:", *(f"  {example}" for example in EXAMPLES[command])))
    parser = ArgumentParser(
        description=text, formatter_class=_formatter(), epilog=examples, exit_on_error=False, allow_abbrev=False
    )
    hints = get_type_hints(function)
    helps = {param.arg_name: param.description for param in doc.params}
    dataclass_settings = settings_of(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in dataclass_settings:
            _add_settings(parser, dataclass_settings[name])
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
        if name.endswith("_"):
            settings["metavar"] = name.rstrip("_").upper()
        settings.update({"required": True} if required else {"default": parameter.default})
        parser.add_argument(flag, dest=name, **settings)
    return parser


def _add_settings(parser: ArgumentParser, settings: Settings) -> None:
    """Add the options of a dataclass; their help is that of its docstring's attributes."""
    helps = {param.arg_name: param.description for param in parse_docstring(settings.kind.__doc__ or "").params}
    for option in settings.options:
        how: dict[str, Any] = {"type": option.hint, "default": option.default, "metavar": option.metavar}
        if option.hint is bool:
            how = {"action": "store_false" if option.default else "store_true"}
        parser.add_argument(option.flag, dest=option.destination, help=helps[option.name], **how)


def _gathered(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Put the dataclasses together again, and fill in the folders of datasets and runs."""
    rest = dict(given)
    made = {name: settings.gather(rest) for name, settings in settings_of(function).items()}
    return {name: _with_folders(name, value) for name, value in rest.items()} | made


def _item_type(hint: Any) -> Any:
    """Return T of ``list[T]`` or ``list[T] | None``, and None for any other hint."""
    for option in (hint, *get_args(hint)):
        if getattr(option, "__origin__", None) is list:
            return get_args(option)[0]
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0 success, 1 failure, 2 wrong usage or configuration."""
    start_process()
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser(_named(words))
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
    _TOLD.clear()
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
        print(f"nucbench: {stop}; run the same command to resume", file=sys.stderr)
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
        if str(message) in _TOLD:  # a file is read when it is checked, and again when it is used
            return ""
        _TOLD.add(str(message))
        return f"nucbench: warning: {message}\n"
    return _FORMAT(message, category, filename, lineno, line)


def _with_folders(name: str, value: Any) -> Any:
    """Fill in the folders of datasets and runs from the environment."""
    return folder(name) if value is None and name in ("data", "runs") else value


if __name__ == "__main__":
    sys.exit(main())
