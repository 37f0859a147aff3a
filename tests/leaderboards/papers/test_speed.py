"""Stored timings beside the published seconds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from leaderboards.literature import load_facts
from leaderboards.papers.speed import Speed
from postproc.errors import DataError

FILE = "dist-hovernet_h100_bf16-mixed_nucbench-0.1.0.csv"


@pytest.fixture
def timings(tmp_path: Path) -> Path:
    (tmp_path / FILE).write_text(
        "job,size,median_ms,threads,note\n"
        "dist: network,1000 px,250,4,\n"
        "dist: post-processing,1000 px,50,4,\n"
        "dist: network,4000 px,9000,4,\n"
        '"hovernet, mode=fast: network",1000 px,400,4,\n'
        '"hovernet, mode=fast: post-processing",1000 px,100,4,\n'
        '"hovernet, mode=original: large tiles",1000 px,2000,4,four inputs\n'
    )
    (tmp_path / "components_cpu_32-true_x.csv").write_text("job,size,median_ms,threads\nHoVer targets,1000 px,2,1\n")
    return tmp_path


def test_network_and_decoding_add_up_beside_the_published_figure(timings: Path) -> None:
    frame = Speed(timings).build(pd.DataFrame(), load_facts())
    lines = {(line["method"], line["tiles"]): line for line in frame.to_dict("records")}
    dist = lines["DIST", ""]
    assert [dist[key] for key in ("published", "network", "post_processing", "ours")] == [0.6, 0.25, 0.05, 0.3]
    assert (dist["hardware"], dist["precision"], dist["threads"], dist["file"]) == ("h100", "bf16-mixed", 4, FILE)
    assert pd.isna(lines["HoVer-Net (fast mode)", ""]["published"])
    assert lines["HoVer-Net (fast mode)", ""]["ours"] == 0.5
    tiled = lines["HoVer-Net", "large tiles"]
    assert (tiled["published"], tiled["network"], tiled["note"]) == (11.04, 2.0, "four inputs")
    assert pd.isna(tiled["ours"])
    assert lines["Mask-RCNN", ""]["published"] == 106.98
    assert lines["HoVer-Net (padded convolution)", ""]["published"] == 1.97
    assert len(frame) == 6


def test_the_markdown_names_the_machine(timings: Path) -> None:
    table = Speed(timings)
    text = table.markdown(table.build(pd.DataFrame(), load_facts()))
    assert "| DIST | 0.60 | 0.30 | 0.25 | 0.05 | h100, 4 threads | bf16-mixed |  |" in text
    assert "| Micro-Net | 0.83 |  |  |  |  |  |  |" in text


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("job\n")
    with pytest.raises(DataError, match=r"x\.csv has no column"):
        Speed(tmp_path).build(pd.DataFrame(), load_facts())
