"""The project's own promises: packages, dependencies, documents."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmark.commands.listing import CARDS
from benchmark.commands.readme import README, cards, fill

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "models", "datamodules", "postproc", "leaderboards")
FLOORS = (
    ("postproc.pixels",),
    ("postproc",),
    ("postproc.codecs",),
    ("postproc.classical",),
    ("datamodules.reading",),
    ("benchmark.host",),
    ("benchmark.metrics", "benchmark.forward"),
    ("datamodules.drawing", "datamodules.synthetic"),
    ("datamodules",),
    ("models.base",),
    ("models.networks",),
    ("models",),
    ("benchmark",),
    ("benchmark.data", "benchmark.slides"),
    ("benchmark.results",),
    ("benchmark.inference",),
    ("benchmark.mirrors", "benchmark.speed"),
    ("benchmark.runs",),
    ("benchmark.sweeps",),
    ("leaderboards",),
    ("leaderboards.papers",),
    ("leaderboards.statistics",),
    ("leaderboards.plots",),
    ("leaderboards.report",),
    ("benchmark.commands",),
)
"""Packages from the ground up; each may import those of lower floors. `benchmark` is the modules at its root."""
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
LEADERBOARDS_MAY_IMPORT = {"benchmark", "benchmark.host", "benchmark.metrics", "benchmark.results"}


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_resolve_inside_the_repository(name: str) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


def _package(module: str) -> str:
    """Return the folder of modules that a module belongs to: ``benchmark.runs`` or ``models``."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and (ROOT / parts[0] / parts[1]).is_dir() else parts[0]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {_package(name) for name in found if name.split(".")[0] in PACKAGES}


def _folders() -> list[str]:
    files = [path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return sorted({_package(".".join(path.with_suffix("").parts)) for path in files})


def test_every_package_has_its_floor() -> None:
    assert _folders() == sorted(LEVEL)


@pytest.mark.parametrize("name", sorted(LEVEL))
def test_imports_point_downwards(name: str) -> None:
    files = (ROOT / name.replace(".", "/")).rglob("*.py")
    for path in files:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if _package(module) != name or module == "benchmark.__main__":
            continue
        for other in _imports(path) - {name}:
            assert LEVEL[other] < LEVEL[name], f"{path} imports {other}"
            if name.startswith("leaderboards") and other.startswith("benchmark"):
                assert other in LEADERBOARDS_MAY_IMPORT, f"{path} imports {other}"


def test_readme_tables_are_those_of_the_cards() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill(text) == text, "run: python -m benchmark.commands.readme"


def test_the_list_of_methods_is_that_of_the_cards() -> None:
    assert CARDS.read_text(encoding="utf-8") == cards(), "run: python -m benchmark.commands.readme"


def test_files_stay_small() -> None:
    long = {
        p.name: n
        for p in ROOT.glob("*/**/*.py")
        if ".venv" not in p.parts and (n := len(p.read_text(encoding="utf-8").splitlines())) > 420
    }
    assert not long


def test_mutants_fit_the_code() -> None:
    mutants = runpy.run_path(str(ROOT / "tools" / "mutants.py"))["MUTANTS"]
    counts = {each.name: (ROOT / each.file).read_text(encoding="utf-8").count(each.old) for each in mutants}
    assert {name for name, count in counts.items() if count != 1} == set(), "bring tools/mutants.py up to date"
    files = {test.partition("::")[0] for each in mutants for test in each.tests}
    assert {name for name in files if not (ROOT / name).exists()} == set()


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {_name(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!-]+", line) for line in pins)
    assert wanted <= {_name(line) for line in pins}


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[]", requirement)[0].strip().lower().replace("_", "-")
