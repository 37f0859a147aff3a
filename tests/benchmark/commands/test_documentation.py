"""The documentation is complete and in step with the code, its links lead somewhere, and its examples run."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command_line import nucbench

from benchmark.commands import training
from benchmark.commands.cli import COMMANDS, build_parser
from benchmark.commands.docs_reproducing import SCORES, run_command
from benchmark.commands.readme import DOCS, README, generated, own_datasets, own_methods, pages
from benchmark.commands.usage import settings_of
from benchmark.results.spec import RunSpec
from benchmark.sweeps.spec import SweepSpec
from datamodules.reading.files import read_rgb

ROOT = README.parent
BUILT = ("gallery",)
"""Folders of `DOCS` that `make docs` writes."""
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in BUILT]
WRITTEN = [path for path in PAGES if path.relative_to(DOCS).as_posix() not in generated()]
TEXTS = [README, ROOT / "CONTRIBUTING.md", *PAGES]
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))
RECORDS = sorted(path.parent.relative_to(SCORES).as_posix() for path in SCORES.glob("*/*/*/record.json"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """Code blocks of a language, without those below ``<!-- notest -->``."""
    found = re.findall(r"(<!-- notest -->\n)?^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for skipped, kind, code in found if kind == language and not skipped]


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def navigation() -> list[str]:
    """Pages of the site's navigation, with those that the hook adds."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    config: dict[str, Any] = {"nav": yaml.safe_load(text)["nav"], "docs_dir": str(DOCS)}
    runpy.run_path(str(ROOT / "tools" / "docs_nav.py"))["on_config"](config)
    found: list[str] = []
    entries = list(config["nav"])
    while entries:
        entry = entries.pop()
        if isinstance(entry, str):
            found.append(entry)
        else:
            entries += entry if isinstance(entry, list) else list(entry.values())
    return found


def test_generated_pages_are_those_of_the_code() -> None:
    made = pages()
    assert generated() == sorted(made), "run: python -m benchmark.commands.readme"
    for name, text in made.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"{name}: run python -m benchmark.commands.readme"


@pytest.mark.parametrize(
    ("folder", "names"), [("commands", list(COMMANDS)), ("methods", own_methods()), ("datasets", own_datasets())]
)
def test_every_command_method_and_dataset_has_its_page(folder: str, names: list[str]) -> None:
    assert {path.stem for path in (DOCS / folder).glob("*.md")} == {*names, "index"}


def test_navigation_lists_every_page_once() -> None:
    listed = sorted(navigation())
    assert listed == sorted([*(path.relative_to(DOCS).as_posix() for path in PAGES), "gallery/index.md"])


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        assert file.exists(), f"{named(path)} links to {link}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{named(path)} links to {link}"


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_code_blocks_are_closed_and_hold_all_commands(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, flags=re.MULTILINE)) % 2 == 0, f"{named(path)}: a fence without counterpart"
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"^nucbench [a-z]", prose, flags=re.MULTILINE), f"{named(path)}: a command outside of a block"


def test_readme_is_short_and_its_picture_small() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200
    assert (DOCS / "images" / "nuclei.png").stat().st_size < 150_000


@pytest.mark.parametrize("path", [path for path in TEXTS if blocks(path.read_text("utf-8"), "python")], ids=named)
def test_python_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for code in blocks(path.read_text(encoding="utf-8"), "python"):
        exec(compile(code, named(path), "exec"), {"__name__": "example"})


def test_the_sweep_of_the_guide_is_valid(tmp_path: Path) -> None:
    (text,) = blocks((DOCS / "how-to" / "sweeps.md").read_text(encoding="utf-8"), "yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    assert SweepSpec.load(file).seeds == (0, 1, 2)


def command_lines(path: Path) -> list[str]:
    found = "".join(blocks(path.read_text(encoding="utf-8"), "")).replace("\\\n", " ")
    return [line for line in found.splitlines() if line.startswith("nucbench ")]


@pytest.mark.parametrize("path", [path for path in [README, *WRITTEN] if command_lines(path)], ids=named)
def test_command_lines_are_those_of_the_parser(path: Path) -> None:
    for line in command_lines(path):
        words = shlex.split(line, comments=True)[1:]
        if words != ["COMMAND", "--help"]:
            assert build_parser([words[0]]).parse_args(words).subcommand == words[0], line


@pytest.mark.slow
def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the commands about files of the reader (labels, mine, tnbc), and those about the tables of the clone."""
    page = DOCS / "quickstart.md"
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks(page.read_text(encoding="utf-8"), "python")[0], "quickstart", "exec"), {})
    done = []
    for line in command_lines(page):
        words = shlex.split(line)[1:]
        if {"labels", "mine", "tnbc"} & {*words} or words[0] in ("publish", "leaderboard", "report"):
            continue
        done.append(words[0])
        said = nucbench(*words, folder=tmp_path, seconds=600).stdout
        if words[0] == "run":
            (scores,) = (tmp_path / "runs").rglob("scores.csv")
            assert pd.read_csv(scores)["aji"].mean() > 0.6, said
    assert done == ["doctor", "predict", "look", "prepare", "run", "list"]
    (result,) = tmp_path.glob("nuclei_look.png")
    assert read_rgb(result).shape[0] > 500


@pytest.mark.parametrize("run", RECORDS)
def test_commands_of_stored_runs_give_these_runs(run: str) -> None:
    words = run_command(run).split()[1:]
    parser = build_parser(["run"])
    given = parser.instantiate(parser.parse_args(words))["run"].as_dict()
    overrides = settings_of(training.run)["overrides"].gather(given)
    spec = RunSpec(
        given["method"],
        given["dataset"],
        split=given["train_split"],
        protocol=given["protocol"],
        seed=given["seed"],
        options=given["options"] or {},
        overrides=overrides,
        also=tuple(given["also"] or ()),
    )
    assert spec.run_id.rpartition("-")[0] == run.rpartition("-")[0]
    assert len(given["evaluate"]) == len(list((SCORES / run / "evaluations").iterdir()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_are_small_and_without_outputs(path: Path) -> None:
    import nbformat

    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(book)
    assert path.stat().st_size < 10_000
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in book.cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("NUCBENCH_DATA", "NUCBENCH_RUNS"):
        monkeypatch.delenv(name, raising=False)
    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert {"image/png", "text/html"} & {kind for output in outputs for kind in output.get("data", {})}


@pytest.mark.slow
def test_gallery_is_drawn_and_small(tmp_path: Path) -> None:
    from benchmark.commands.docs_gallery import draw_gallery

    for _ in range(2):  # a second call replaces the pictures
        draw_gallery(tmp_path)
    page = (tmp_path / "index.md").read_text(encoding="utf-8")
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert sorted(re.findall(r"\]\((\w+\.png)\)", page)) == pictures
    assert 0 < sum((tmp_path / name).stat().st_size for name in pictures) < 1_000_000
