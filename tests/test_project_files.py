"""Files that other programs read (workflows, hooks, templates, citation), and the version that they state."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from benchmark.commands.cli import main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
YAML = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]


def read(path: Path) -> Any:
    """Read YAML with every scalar as text: ``on`` stays a word, 3.10 no number."""
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


def targets(text: str) -> set[str]:
    """Targets of make that a text calls, one or several a line."""
    lines = re.findall(r"^\s*(?:run: )?make ([a-z -]+)$", text, re.MULTILINE)
    return {name for line in lines for name in line.split()}


def recipe(target: str) -> str:
    """What the Makefile does for a target; fails if it has none of this name."""
    found = re.search(rf"^{target}:[^\n]*\n((?:\t[^\n]*\n)*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert found is not None, f"the Makefile has no target {target}"
    return found[1]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_files_are_mappings(path: Path) -> None:
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_check_as_people_do(path: Path) -> None:
    workflow = read(path)
    assert {"push", "pull_request", "schedule"} <= set(workflow["on"])
    assert workflow["permissions"] == {"contents": "read"}
    called = targets("\n".join(step.get("run", "") for step in steps(path)))
    assert called == {"install", "lint", "docs", "test", "test-all", "demo"}
    for target in called - {"install"}:
        assert recipe(target)
    for step in steps(path):
        assert "run" in step or re.fullmatch(r"[\w./-]+@v\d+", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_use_pythons_that_are_supported(path: Path) -> None:
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    for job in read(path)["jobs"].values():
        pythons = job["strategy"]["matrix"]["python"]
        assert pythons == ["3.11", "3.12"]
        assert all(supported.contains(version) for version in pythons)


def test_slow_tests_are_left_to_test_all() -> None:
    assert '-m "not slow"' in recipe("test")
    assert "slow" not in recipe("test-all")
    assert targets((ROOT / ".ci/run").read_text(encoding="utf-8")) == {"lint", "docs", "test-all", "demo"}
    markers = [marker.partition(":")[0] for marker in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    assert "slow" in markers


def test_compiled_functions_are_kept_in_one_ignored_folder() -> None:
    """What numba has compiled, all test processes and the demo load."""
    folder = ".numba_cache"
    assert f"export NUMBA_CACHE_DIR ?= $(CURDIR)/{folder}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f'/ "{folder}"' in (ROOT / "tests/conftest.py").read_text(encoding="utf-8")
    assert f"{folder}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).is_absolute()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", ".github/pull_request_template.md"])
def test_documents_name_targets_of_the_makefile(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
    assert named
    for target in named:
        assert recipe(target)


def test_hooks_use_the_ruff_of_the_constraints() -> None:
    hooks = {repo["repo"].rpartition("/")[2]: repo for repo in read(ROOT / ".pre-commit-config.yaml")["repos"]}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"ruff=={hooks['ruff-pre-commit']['rev'].removeprefix('v')}" in pins
    assert {hook["id"] for hook in hooks["ruff-pre-commit"]["hooks"]} == {"ruff-check", "ruff-format"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_as_github_wants_them(path: Path) -> None:
    """GitHub shows a form with a mistake not at all, and says so nowhere."""
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    fields = form["body"]
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids)
    for field in fields:
        assert field["type"] in {"input", "textarea", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]
        assert ("options" in field["attributes"]) == (field["type"] in {"dropdown", "checkboxes"})
        assert set(field) <= {"type", "id", "attributes", "validations"}


def test_every_place_states_the_same_version(capsys: pytest.CaptureFixture[str]) -> None:
    version = PROJECT["project"]["version"]
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert released[0] == (version, citation["date-released"])
    assert ".".join(version.split(".")[:2]) in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"nucbench {version}\n", "the installed package is older: run make install"


def test_the_changelog_has_the_sections_of_its_form() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if line.startswith("## ")) == "## [Unreleased]"
    kinds = {line for line in lines if line.startswith("### ")}
    assert kinds <= {f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")}
