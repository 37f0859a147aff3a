"""Methods of other installed packages, declared as entry points, as real command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment

MODULE = '''
import dataclasses

from models.base.card import Variant
from models.base.method import UNTYPED
from models.stardist import StarDist


class Mine(StarDist):
    """StarDist under another name."""

    card = dataclasses.replace(
        StarDist.card, name="mine", variants=(Variant("mine", "Mine"),), summary="A method of another package."
    )

    def __init__(self, task=UNTYPED, *, features: int = 4) -> None:
        super().__init__(task, features=features, rays=8)
        self.codecs = {"mine": self.codecs["stardist"]}
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder like site-packages with an installed package."""
    (tmp_path / "my_methods.py").write_text(MODULE)
    _declare(tmp_path, "mine = my_methods:Mine\nunet = my_methods:Mine\n")
    return tmp_path


def _declare(folder: Path, methods: str) -> None:
    facts = folder / "my_methods-0.1.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-methods\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text(f"[nucbench.methods]\n{methods}")


def _command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a fresh interpreter, which finds the installed package."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "benchmark", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(PYTHONPATH=path), capture_output=True, text=True)


@pytest.mark.slow
def test_a_method_of_another_package_is_listed_trained_and_used(package: Path) -> None:
    def command(*arguments: str) -> str:
        done = _command(package, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "A method of another package." in command("list", "methods", "mine")
    assert "Encoder and decoder" in command("list", "methods", "unet")  # own names cannot be replaced
    command("prepare", "synthetic", "--synthetic", "--size", "96")
    trained = command("run", "mine", "synthetic", "--steps", "2", "--batch-size", "2", "--crop", "64", "--no-progress")
    assert "Mine" in trained
    (run,) = (package / "runs/mine/synthetic").iterdir()
    image = next((package / "data/synthetic").rglob("*.png"))
    command("predict", f"{run}", f"{image}", "--no-progress")
    assert (package / "predictions" / f"{image.stem}.mat").is_file()


@pytest.mark.slow
def test_a_package_that_cannot_be_loaded_is_named(package: Path) -> None:
    _declare(package, "mine = my_methods:Other\n")
    done = _command(package, "list", "methods", "mine")
    assert done.returncode == 2
    assert "method 'mine' of the package 'my-methods' ('my_methods:Other') cannot be loaded" in done.stderr


@pytest.mark.slow
def test_unusable_entries_are_left_out_and_named(package: Path) -> None:
    names = ("../mine", "Mine", "a/b", "..", "mine")
    _declare(package, "".join(f"{name} = my_methods:Mine\n" for name in names))
    other = package / "other-0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 0.1\n")
    (other / "entry_points.txt").write_text("[nucbench.methods]\nmine = other:Mine\ngood = my_methods:Mine\n")
    listed = _command(package, "list", "methods")
    assert listed.returncode == 0, listed.stderr
    assert "good" in listed.stdout
    for name in names[:-1]:
        assert f"the name {name!r} of the package my-methods must have lower-case letters" in listed.stderr
    assert "'mine' is declared more than once, by my-methods and other" in listed.stderr
    for name in names:
        done = _command(package, "run", name, "synthetic", "--steps", "1")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert not (package / "runs").exists()


def test_a_package_that_fails_does_not_hide_the_others(package: Path) -> None:
    (package / "my_methods.py").write_text("1 / 0")
    done = _command(package, "list", "methods")
    assert done.returncode == 1
    assert "stardist" in done.stdout
    assert "method 'mine' of the package 'my-methods' ('my_methods:Mine') cannot be loaded: division" in done.stderr


def test_damaged_metadata_of_a_package_does_not_stop_commands_without_torch(package: Path) -> None:
    damaged = package / "damaged-0.1.dist-info"
    damaged.mkdir()
    (damaged / "entry_points.txt").write_text("[nucbench.methods]\nno equals sign\n")
    done = _command(package, "list", "runs")
    assert done.returncode == 0, done.stderr
    assert "mine" in _command(package, "--help").stdout
