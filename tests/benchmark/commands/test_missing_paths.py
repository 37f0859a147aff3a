"""Exit status of a path that does not exist and of wrong configuration (2), and of wrong content (1)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from benchmark.commands import cli
from benchmark.commands.usage import settings_of
from datamodules.reading.files import write_rgb
from datamodules.synthetic_sets import Synthetic

MISSING = {
    ("sweep", "file"): "sweep none.yaml",
    ("search", "file"): "search none.yaml",
    ("predict", "run"): "predict none/run image.png",
    ("predict", "images"): "predict default none.png none/*.png",
    ("predict", "tissue"): "predict default blank.png --tissue none.png",
    ("look", "image"): "look none.png maps",
    ("look", "nuclei"): "look blank.png none",
    ("score", "truth"): "score --truth none --predictions maps",
    ("score", "predictions"): "score --truth maps --predictions none",
    ("evaluate", "predictions"): "evaluate --predictions none --dataset synthetic --method Mine",
    ("export", "run"): "export none/run --to out",
    ("adopt", "weights"): "adopt dist none.pt --trained-on kumar",
    ("plot", "run"): "plot maps --run none/run",
    ("publish", "run"): "publish none/run",
    ("prepare", "from_"): "prepare kumar --from none.zip",
    ("tiles", "slides"): "tiles none.svs none2.svs --out out",
    ("tiles", "target"): "tiles slide.svs --target none.png --out out",
}
"""Command and parameter -> command line whose only fault is that the path of this parameter does not exist."""
MORE = (
    "sweep none/none.yaml",
    "predict default none.png",
    "export none/run --to out --format onnx",
    "publish none.json",
    "tiles none.svs --out out",
    "run hover-lite synthetic --options.weights none.pt --steps 1",
)
CREATED = {"out", "to", "store", "data", "runs"}
"""Folders that commands create, or that hold nothing yet where they do not exist."""
BAD = (
    "predict default text.png --no-progress",
    "predict default empty",
    "score --truth empty --predictions maps",
    "score --truth maps --predictions empty",
    "evaluate --predictions empty --dataset synthetic --method Mine",
    "adopt dist text.pt --trained-on kumar",
    "publish text.json",
    "prepare kumar --from text.zip",
    "tiles text.svs --out out",
    "tiles text.svs --target text.png --out out",
    "run hover-lite synthetic --options.weights text.pt --steps 1",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a dataset, label maps, and files and folders without useful content."""
    Synthetic.write_synthetic(tmp_path / "data/synthetic", size=64)
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps/a.npy", np.eye(8, dtype=np.int32))
    write_rgb(tmp_path / "blank.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "empty").mkdir()
    for ending in ("yaml", "png", "pt", "json", "zip", "svs"):
        (tmp_path / f"text.{ending}").write_text("nothing")
    monkeypatch.chdir(tmp_path)
    for name in ("NUCBENCH_DATA", "NUCBENCH_RUNS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_every_path_that_a_command_reads_is_among_them() -> None:
    paths = set()
    for command, function in cli.COMMANDS.items():
        hints = get_type_hints(function)
        for name in inspect.signature(function).parameters:
            if name not in settings_of(function) and "Path" in str(hints[name]) and name not in CREATED:
                paths.add((command, name))
    assert paths == set(MISSING)


@pytest.mark.parametrize("line", [*MISSING.values(), *MORE])
def test_a_path_that_does_not_exist_is_a_wrong_command_line(
    line: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert cli.main(line.split()) == 2
    errors = capsys.readouterr().err
    assert "none" in errors
    assert errors.startswith("nucbench: error: ")
    assert "Traceback" not in errors
    assert [path for path in sorted(place.rglob("*")) if path not in before] == []


@pytest.mark.parametrize("line", BAD)
def test_wrong_content_is_a_failure(line: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("nucbench: error: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize("line", ["sweep text.yaml", "search text.yaml"])
def test_sweep_and_search_files_are_configuration(line: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 2
    assert "nucbench: error: text.yaml must contain a mapping with method" in capsys.readouterr().err


def test_one_message_for_search_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["search", "none.yaml"]) == 2
    shown = capsys.readouterr().err
    assert "search file none.yaml not found. Searches of nucbench: dist-search.yaml" in shown
    assert "segmentation.yaml" not in shown
