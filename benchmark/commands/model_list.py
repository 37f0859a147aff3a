"""`nucbench models`: list the models of the indexes, and get some of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from benchmark.host.console import wide_console
from benchmark.results.model_cache import is_here, obtain_model
from benchmark.results.model_folder import CARD
from benchmark.results.model_index import VARIABLE, Listed, own_index, shipped_index
from postproc.errors import ConfigError, unknown_name


def print_models(names: Sequence[str], index: str | None, mirror: str | None, *, progress: bool) -> None:
    """List the models of the shipped and the user's index, or get the named ones.

    Args:
        names: Models to get; empty = list all.
        index: File or address of the user's index; None = that of the environment.
        mirror: Address that serves archives as ``NAME/FILE``.
        progress: Show progress bars.

    Raises:
        ConfigError: If a name is unknown, or `mirror` is no address or given without names.
        DataError: If the index is malformed, or a model is unavailable.
    """
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise ConfigError(f"--mirror is {mirror}; give an address that begins with https:// or http://")
    if mirror is not None and not names:
        raise ConfigError("--mirror serves archives of models; name those to get: nucbench models NAME --mirror ...")
    shipped = shipped_index()
    known = {**shipped, **own_index(index)}
    for name in names:
        if name not in known:
            raise unknown_name("model", name, known)
    for name in names:
        folder = obtain_model(known[name], mirror, progress=progress)
        print(f"{name}: {folder}")
    if not names:
        _print_table(known, set(shipped), own=index)


def _print_table(known: dict[str, Listed], shipped: set[str], own: str | None) -> None:
    table = Table("model", "method", "trained on", "types", "MB", "licence", "where")
    for name, each in known.items():
        entry = each.entry
        sets, types = ", ".join(entry.trained_on), "\n".join(entry.types) or "-"
        table.add_row(
            name, entry.method, sets, types, f"{entry.size / 1e6:.1f}", entry.licence, _where(each, name in shipped)
        )
    console = wide_console()
    console.print(table)
    for name, each in known.items():
        console.print(f"  {name}: {each.entry.summary}", highlight=False, soft_wrap=True)
    console.print("Use one with: nucbench predict NAME IMAGE... Its card has the scores:")
    for each in known.values():
        if each.entry.folder is not None:
            console.print(f"  {Path(each.source) / CARD}", highlight=False, soft_wrap=True)
    if own is not None:
        console.print(f"Other commands find the models of this index by {VARIABLE}={own}", soft_wrap=True)


def _where(listed: Listed, shipped: bool) -> str:
    if listed.entry.folder is not None:
        return "included" if shipped else "folder"
    return "on this machine" if is_here(listed) else "download"


__all__ = ["print_models"]
