"""`nucbench plot` in subprocesses, on scored predictions of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import command_line
import numpy as np
import pytest
from PIL import Image

nucbench = partial(command_line.nucbench, MPLBACKEND="qtagg")  # a window would fail


@pytest.mark.slow
def test_plots_of_a_run(tmp_path: Path) -> None:
    nucbench("prepare", "kumar", "--synthetic", "--size", "128", folder=tmp_path)
    (tmp_path / "theirs").mkdir()
    for path in (tmp_path / "data/kumar").glob("test_*/Labels/*"):  # the annotation itself as prediction
        (tmp_path / "theirs" / path.name).symlink_to(path)
    nucbench("evaluate", "--predictions", "theirs", "--dataset", "kumar", "--method", "Copy", folder=tmp_path)
    done = nucbench("plot", "boxes", "overlays", "sizes", "--out", "pictures", folder=tmp_path)
    written = [tmp_path / line for line in done.stdout.splitlines()]
    stems = {"boxes-kumar-paper", "boxes-kumar-published", "overlays-kumar-paper", "sizes-kumar-paper"}
    assert {path.name for path in written} == {stem + end for stem in stems for end in (".png", ".svg")}
    overlay = np.asarray(Image.open(tmp_path / "pictures/overlays-kumar-paper.png").convert("RGB"))
    assert overlay.shape[1] > 1400
    assert "Copy (synthetic stand-ins), PQ 1.000" in (tmp_path / "pictures/overlays-kumar-paper.svg").read_text()

    (run,) = tmp_path.glob("runs/copy/kumar/*")
    (run / "predictions").rename(run / "elsewhere")
    done = nucbench("plot", "overlays", "--out", "none", folder=tmp_path)
    assert "not drawn: overlays-kumar-paper: Copy (synthetic stand-ins): " in done.stdout
    assert not (tmp_path / "none").exists()

    done = nucbench("plot", "overlay", folder=tmp_path, status=2)
    assert "unknown plot 'overlay'. Did you mean 'overlays'?" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
