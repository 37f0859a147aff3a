"""Algorithm 1 of DIST on the annotation of TNBC, and on generated outlines where it is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.commands.cli import main
from benchmark.registry import dataset_class
from datamodules.reading.splits import read_column
from datamodules.synthetic_sets import OUTLINES, SyntheticDIST
from datamodules.tnbc import TNBC
from postproc.errors import DataError


def prepare(data: Path, *more: str) -> int:
    return main(["prepare", "synthetic-dist", "--synthetic", "--data", str(data), "--no-progress", *more])


def test_the_splits_name_every_image_of_tnbc_once_and_keep_patients_together() -> None:
    origin, rows, patients = read_column("synthetic-dist", "tnbc"), SyntheticDIST.splits(), TNBC.splits()
    assert sorted(origin.values()) == sorted(patients)
    for name, row in rows.items():
        assert row.group == f"tnbc_{patients[origin[name]].group}"


def test_images_follow_the_annotation_that_the_splits_name(tmp_path: Path) -> None:
    TNBC.write_synthetic(tmp_path / "tnbc", images=50, size=64)
    source = TNBC(tmp_path / "tnbc")
    SyntheticDIST.write_simulated(tmp_path / "a", source)
    data, origin = SyntheticDIST(tmp_path / "a"), read_column("synthetic-dist", "tnbc")
    records = {record.image_id: record for record in source.records}
    for record in data.records[::7]:
        theirs = source.read(records[origin[record.image_id]]).truth.labels
        ours = data.read(record).truth.labels
        assert theirs is not None
        assert ours is not None
        assert ours.shape == theirs.shape
        assert (ours[theirs > 0] > 0).all()  # dilated, by one px
        assert ours.astype(bool).sum() > (theirs > 0).sum() > 0
    assert data.fingerprint("test")["outlines"] == "tnbc"
    SyntheticDIST.write_simulated(tmp_path / "b", source, size=32, images=3)
    assert SyntheticDIST(tmp_path / "b").read(SyntheticDIST(tmp_path / "b").records[0]).image.shape == (32, 32, 3)
    SyntheticDIST.write_synthetic(tmp_path / "c", images=3, size=32)
    assert SyntheticDIST(tmp_path / "c").fingerprint("test")["outlines"] == "generated"
    (tmp_path / "c" / OUTLINES).write_text("kumar")
    with pytest.raises(DataError, match=r"OUTLINES\.txt has 'kumar', not tnbc or generated"):
        SyntheticDIST(tmp_path / "c").fingerprint("test")


def test_prepare_says_whose_outlines_were_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, "--images", "3", "--size", "32", "--source", "tnbc") == 1
    assert "Run `nucbench prepare tnbc`, or use --source generated" in capsys.readouterr().err
    assert prepare(tmp_path, "--images", "3", "--size", "32", "--source", "kumar") == 2
    assert "unknown source of synthetic-dist 'kumar'" in capsys.readouterr().err
    assert main(["prepare", "kumar", "--synthetic", "--source", "tnbc", "--data", str(tmp_path)]) == 2
    assert "kumar is not simulated from the annotation of another dataset" in capsys.readouterr().err
    assert main(["prepare", "synthetic-dist", "--source", "tnbc", "--data", str(tmp_path)]) == 2
    assert "add --synthetic" in capsys.readouterr().err
    # a stand-in is not the annotation of DS1
    assert main(["prepare", "tnbc", "--synthetic", "--images", "50", "--size", "32", "--data", str(tmp_path)]) == 0
    assert prepare(tmp_path, "--images", "3", "--size", "32") == 0
    out = capsys.readouterr().out
    assert "simulated from generated outlines, because tnbc is incomplete or missing" in out
    assert SyntheticDIST(tmp_path / "synthetic-dist").outlines == "generated"


@pytest.mark.real_data
def test_real_tnbc_is_used_where_it_is(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tnbc").symlink_to(data_root / "tnbc")
    assert prepare(tmp_path, "--images", "6") == 0
    assert "synthetic-dist: simulated from the annotation of tnbc" in capsys.readouterr().out
    data = SyntheticDIST(tmp_path / "synthetic-dist")
    assert data.outlines == "tnbc"
    origin, source = read_column("synthetic-dist", "tnbc"), TNBC(tmp_path / "tnbc")
    records = {record.image_id: record for record in source.records}
    for record in data.records:
        truth, theirs = data.read(record).truth, source.read(records[origin[record.image_id]]).truth
        assert truth.shape == (512, 512)
        assert 0.9 * theirs.count <= truth.count <= theirs.count  # nuclei that touch are one
    other = tmp_path / "other"
    other.mkdir()
    (other / "tnbc").symlink_to(data_root / "tnbc")
    assert prepare(other, "--images", "3", "--size", "64", "--source", "generated") == 0
    assert "simulated from generated outlines, as requested" in capsys.readouterr().out


def test_other_datasets_are_simulated_from_none(tmp_path: Path) -> None:
    for name in ("kumar", "synthetic"):
        kind = dataset_class(name)
        with pytest.raises(Exception, match="is not simulated from"):
            kind.write_simulated(tmp_path, TNBC(tmp_path))
    assert np.all([dataset_class(n).card.outlines == "" for n in ("kumar", "tnbc")])
