"""`nucbench doctor`: what this installation can do, and what is broken in it."""

from __future__ import annotations

import json
import netrc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmark.commands.doctor_extras import MEANING, extras, faults, install
from benchmark.host.cores import cores_in_affinity, usable_cores
from benchmark.host.resources import (
    SHARED_MEMORY,
    free_space,
    instruction_sets,
    memory,
    processor,
    unwritable,
)
from benchmark.registry import DATASETS
from benchmark.results.model_folder import SHIPPED, Description, shipped_models
from postproc.errors import NucbenchError, one_line

LEAST_SHARED = 0.25
"""GiB of shared memory below which loader workers fail: containers start with 64 MiB unless told otherwise."""
VERSIONS = ("torch", "torchvision", "pytorch-lightning", "numpy", "numba", "opencv-python-headless", "timm", "wandb")
"""Packages whose versions are shown; ``record.json`` of a run lists more."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        section: Heading.
        name: What was looked at.
        value: What was found, as JSON.
        text: What was found, for people; empty = `value`.
        remedy: What to do if it is broken; empty if it is not.
    """

    section: str
    name: str
    value: Any
    text: str = ""
    remedy: str = ""

    def line(self) -> str:
        """Return the finding on a line."""
        mark = "broken: " if self.remedy else ""
        return f"{self.name}: {mark}{self.text or self.value}"


def examine(data: Path, runs: Path, *, self_test: bool = True) -> Iterator[Finding]:
    """Yield what can be found out about this installation, most general first; nothing is changed.

    Args:
        data: Folder with one folder per dataset.
        runs: Folder of all runs.
        self_test: Also find the nuclei of a small synthetic image with a shipped model.
    """
    yield from _packages()
    yield from _processor()
    yield from _torch()
    yield from _memory()
    yield from _folders(data, runs)
    yield _wandb()
    yield from _datasets(data)
    yield from _models()
    if self_test:
        yield _self_test()


def _packages() -> Iterator[Finding]:
    yield Finding("versions", "nucbench", version("nucbench"))
    yield Finding("versions", "python", platform.python_version(), f"{platform.python_version()} ({sys.executable})")
    yield Finding("versions", "system", platform.platform())
    for name in VERSIONS:
        with suppress(PackageNotFoundError):  # named below
            yield Finding("versions", name, version(name))
    if wrong := faults():
        yield Finding("versions", "dependencies", wrong, "; ".join(wrong), f"install them: {install()}")
    for name in extras():
        wrong, meaning = faults(name), MEANING.get(name, "")
        text = f"not installed: {meaning}; {install(name)} ({'; '.join(wrong)})" if wrong else f"installed: {meaning}"
        yield Finding("extras", name, {"installed": not wrong, "faults": wrong}, text)


def _processor() -> Iterator[Finding]:
    yield Finding("processor", "name", processor())
    known = instruction_sets()
    text = ", ".join(name for name, present in known.items() if present) or "none known"
    yield Finding("processor", "instruction sets", known, text)
    counts = {"usable": usable_cores(), "affinity": cores_in_affinity(), "machine": os.cpu_count()}
    text = "{usable} usable ({affinity} by affinity, {machine} in the machine)".format(**counts)
    yield Finding("processor", "cores", counts, text)


def _torch() -> Iterator[Finding]:
    try:
        import torch

        from benchmark.host.precision import resolve

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        for number in range(count):
            facts = torch.cuda.get_device_properties(number)
            about: dict[str, Any] = {"name": facts.name, "memory_gib": round(facts.total_memory / 2**30, 1)}
            about |= {"capability": f"{facts.major}.{facts.minor}", "tf32": facts.major >= 8}
            about["bf16"] = torch.cuda.is_bf16_supported(including_emulation=False)
            able = ", ".join(("bf16" * about["bf16"], "TF32" * about["tf32"])).strip(", ")
            text = "{name}, {memory_gib} GiB, capability {capability}".format(**about)
            yield Finding("gpu", f"{number}", about, f"{text}, {able or 'neither bf16 nor TF32'}")
        if not count:
            built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch has no CUDA"
            yield Finding("gpu", "none", None, f"trainings run on the processor; {built}")
        yield Finding("gpu", "precision auto", resolve("auto"))
    except Exception as error:  # a broken library may raise anything
        yield _broken("versions", "import of torch", error, "reinstall it: pip install --force-reinstall torch")


def _memory() -> Iterator[Finding]:
    if (sizes := memory()) is not None:
        total, free = sizes
        value = {"total_gib": round(total, 1), "available_gib": round(free, 1)}
        yield Finding("memory", "main", value, f"{free:.1f} GiB available of {total:.1f}")
    if SHARED_MEMORY.is_dir() and (space := free_space(SHARED_MEMORY)) is not None:
        total, free = space
        value = {"total_gib": round(total, 2), "available_gib": round(free, 2)}
        text = f"{free:.2f} GiB free of {total:.2f}"
        remedy = (
            "loader workers need it: start the container with --shm-size 2g or --ipc host, empty it, or use --workers 0"
        )
        yield Finding("memory", f"{SHARED_MEMORY}", value, text, remedy if free < LEAST_SHARED else "")


def _folders(data: Path, runs: Path) -> Iterator[Finding]:
    for name, folder in (("runs", runs), ("data", data)):
        reason, space = unwritable(folder), free_space(folder)
        value = {"path": f"{folder}", "exists": folder.is_dir(), "writable": not reason}
        value |= {} if space is None else {"free_gib": round(space[1], 1)}
        text = f"{folder}, {'' if folder.exists() else 'does not exist yet, '}"
        text += f"cannot be written ({reason})" if reason else "writable"
        text += "" if space is None else f", {space[1]:.1f} GiB free"
        # data may lie on a read-only disk
        remedy = f"give another folder: --{name} or NUCBENCH_{name.upper()}" if reason and name == "runs" else ""
        yield Finding("folders", name, value, text, remedy)


def _wandb() -> Finding:
    """Tell whether W&B has a key, without asking its server or showing the key."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    source = "WANDB_API_KEY" if os.environ.get("WANDB_API_KEY") else ""
    if not source:
        file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
        try:
            source = f"{file}" if netrc.netrc(file).authenticators(host) else ""
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            source = ""
    mode = os.environ.get("WANDB_MODE") or "not set (runs are mirrored offline)"
    text = f"logged in to {host} by {source}" if source else "not logged in; `wandb login`, needed for --wandb online"
    return Finding("wandb", "login", {"host": host, "logged_in": bool(source), "mode": mode}, f"{text}; mode {mode}")


def _datasets(data: Path) -> Iterator[Finding]:
    folders = [name for name in DATASETS if (data / name).is_dir()]
    if not folders:
        yield Finding("datasets", "none", None, f"{data} has no dataset; nucbench list datasets says how to get them")
        return
    try:
        from benchmark.data.presence import presence
        from benchmark.registry import dataset_class
    except Exception as error:
        yield _broken("datasets", "import", error, f"install nucbench again: {install()}")
        return
    for name in folders:
        try:
            kind = dataset_class(name)
            found = presence(kind, data / name)
        except (NucbenchError, OSError) as error:
            yield _broken("datasets", name, error, f"nucbench prepare {name}")
            continue
        if found.state == "not found":
            continue
        counts = ", ".join(f"{count} {split}" for split, count in sorted(found.images.items()))
        value: dict[str, Any] = {"state": found.state, "synthetic": found.synthetic, "images": dict(found.images)}
        value["problem"] = found.problem
        text = found.problem or f"{found.text(kind.card)} ({counts})"
        yield Finding("datasets", name, value, one_line(text), f"nucbench prepare {name}" if found.problem else "")


def _models() -> Iterator[Finding]:
    models = shipped_models()
    if not models:
        remedy = f"the installation is incomplete; install it again: {install()}"
        yield Finding("models", "shipped", [], f"{SHIPPED} has no model", remedy)
    for name, folder in models.items():
        try:
            about = Description.read(folder)
            yield Finding("models", name, about.method, f"{about.method}, trained on {', '.join(about.trained_on)}")
        except NucbenchError as error:
            yield _broken("models", name, error, f"install nucbench again: {install()}")


def _self_test() -> Finding:
    try:
        from benchmark.commands.self_test import find_nuclei

        found = find_nuclei()
    except Exception as error:  # whatever is broken is the finding
        return _broken("self-test", "predict", error, f"install nucbench again: {install()}")
    text = "{found} nuclei of {drawn} drawn in a synthetic image, in {seconds} s, {loading_seconds} s for loading"
    remedy = "" if found["found"] else f"the model finds nothing; install nucbench again: {install()}"
    return Finding("self-test", "predict", found, text.format(**found), remedy)


def _broken(section: str, name: str, error: Exception, remedy: str) -> Finding:
    text = f"{type(error).__name__}: {one_line(str(error))}"
    return Finding(section, name, text, text, remedy)


def run_doctor(data: Path, runs: Path, *, self_test: bool, as_json: bool) -> int:
    """Print the findings; return 1 if something is broken, 0 otherwise.

    Args:
        data: Folder with one folder per dataset.
        runs: Folder of all runs.
        self_test: Also run the self-test.
        as_json: Print one JSON object, at the end.
    """
    section, every = "", []
    for finding in examine(data, runs, self_test=self_test):
        every.append(finding)
        if as_json:
            continue
        if finding.section != section:
            section = finding.section
            print(section)
        print(f"  {finding.line()}", flush=True)
    broken = [finding for finding in every if finding.remedy]
    if as_json:
        content: dict[str, Any] = {}
        for finding in every:
            content.setdefault(finding.section, {})[finding.name] = finding.value
        keys = ("section", "name", "text", "remedy")
        content["broken"] = [{key: getattr(finding, key) for key in keys} for finding in broken]
        print(json.dumps(content, indent=2))
        return 1 if broken else 0
    for finding in broken:
        print(f"broken: {finding.section}, {finding.name}: {finding.text or finding.value}\n  remedy: {finding.remedy}")
    if not broken:
        print("nothing is broken")
    return 1 if broken else 0


__all__ = ["Finding", "examine", "run_doctor"]
