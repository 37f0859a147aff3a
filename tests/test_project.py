"""The project's own promises: packages, dependencies, documents."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmark.readme import README, fill

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "models", "datamodules", "postproc", "leaderboards")
MAY_IMPORT = {
    "postproc": {"postproc"},
    "datamodules": {"datamodules", "postproc"},
    "models": {"models", "datamodules", "postproc"},
    "leaderboards": {"leaderboards", "datamodules", "postproc", "benchmark"},
    "benchmark": set(PACKAGES),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_resolve_inside_the_repository(name: str) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_dependencies_point_one_way(name: str) -> None:
    for path in (ROOT / name).rglob("*.py"):
        assert _imports(path) & set(PACKAGES) <= MAY_IMPORT[name], path


def test_readme_tables_are_those_of_the_cards() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill(text) == text, "run: python -m benchmark.readme"


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
