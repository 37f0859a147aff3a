"""Datasets put together from downloads and archives, by function and by command; the server is a real one."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from command_line import nucbench

from benchmark.commands.cli import main
from benchmark.data.download import DownloadError, Patience
from benchmark.data.obtain import ByHandError, obtain
from benchmark.data.prepare import prepare_dataset
from benchmark.data.presence import presence
from benchmark.host.files import held
from benchmark.registry import DATASETS, dataset_class
from datamodules.base import SYNTHETIC_MARKER
from datamodules.consep import CoNSeP
from datamodules.monuseg import MoNuSeg
from datamodules.reading import archive
from datamodules.reading.card import Download
from datamodules.tnbc import TNBC
from postproc.errors import BusyError, ConfigError, DataError

QUICK = Patience(tries=4, wait=0.01, timeout=2.0)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def packed(folder: Path, wrapper: str = "", only: str = "") -> bytes:
    """Zip the files of a folder whose path begins with `only`, as if they lay in a folder `wrapper`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder).as_posix()
            if path.is_file() and path.name != SYNTHETIC_MARKER and inside.startswith(only):
                file.write(path, f"{wrapper}{inside}")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def zips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Archives of small stand-ins, in the layouts of the real ones."""
    folder = tmp_path_factory.mktemp("stand-ins")
    for kind in (TNBC, MoNuSeg, CoNSeP):
        kind.write_synthetic(folder / kind.card.name, size=64)
    dataset_class("ki67").write_synthetic(folder / "ki67", images=2, size=64)
    return {
        "tnbc": packed(folder / "tnbc", "TNBC_NucleiSegmentation/"),
        "train": packed(folder / "monuseg", only="MoNuSeg 2018"),
        "test": packed(folder / "monuseg", only="MoNuSegTest"),
        "consep": packed(folder / "consep", "CoNSeP/"),
        "consep-train": packed(folder / "consep", only="Train"),
        "consep-test": packed(folder / "consep", only="Test"),
        "ki67": packed(folder / "ki67", "KiNet-HEAD/datasets/PNET/"),
    }


def carded(kind: Any, **changes: Any) -> Any:
    """Return a dataset with another card."""
    return type(kind.__name__, (kind,), {"card": dataclasses.replace(kind.card, **changes)})


def tnbc_at(server: Any, content: bytes) -> Any:
    server.body = content
    file = Download("TNBC.zip", f"{server.url}/TNBC.zip", len(content), sha256(content))
    return carded(TNBC, downloads=(file,))


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()
    }


class TestObtain:
    def test_download_unpack_check_and_again(
        self, server: Any, zips: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kind = tnbc_at(server, zips["tnbc"])
        server.behave = [f"break {len(zips['tnbc']) // 2}", "ok"]
        assert obtain(kind, tmp_path / "tnbc", progress=False, patience=QUICK)
        assert len(kind(tmp_path / "tnbc").records) == 6
        assert "verified: sha256:" in capsys.readouterr().out
        before = snapshot(tmp_path)
        assert not obtain(kind, tmp_path / "tnbc", progress=False, patience=QUICK)
        assert len(server.seen) == 2
        assert snapshot(tmp_path) == before
        assert {n for n in names(tmp_path / "tnbc") if n.startswith(".")} == set()

    def test_several_downloads_and_one_that_is_there(self, server: Any, zips: dict[str, bytes], tmp_path: Path) -> None:
        server.files = {"a.zip": zips["train"], "b.zip": zips["test"]}
        files = tuple(Download(name, f"{server.url}/{name}", None, None) for name in server.files)
        put(tmp_path / "downloads" / "a.zip", zips["train"])
        obtain(carded(MoNuSeg, downloads=files), tmp_path, progress=False, patience=QUICK)
        assert len(server.seen) == 1
        assert {record.split for record in MoNuSeg(tmp_path).records} == {"train", "test", "extra"}
        assert (tmp_path / "MoNuSeg 2018 Training Data" / "Tissue Images").is_dir()

    def test_folder_inside_an_archive(self, server: Any, zips: dict[str, bytes], tmp_path: Path) -> None:
        server.body = zips["ki67"]
        kind = carded(dataset_class("ki67"), downloads=(Download("x.zip", f"{server.url}/x.zip"),))
        obtain(kind, tmp_path, progress=False, patience=QUICK)
        assert (tmp_path / "images" / "train").is_dir()
        assert len(kind(tmp_path).records) == 2

    def test_download_that_fails_says_what_to_do_by_hand(self, server: Any, tmp_path: Path) -> None:
        server.behave = ["status 404"]
        kind = tnbc_at(server, b"")
        with pytest.raises(DownloadError, match=r"(?s)404.*1\. Download .*2\. Put it into .*downloads\n3\. Run"):
            obtain(kind, tmp_path / "tnbc", progress=False, patience=QUICK)

    def test_form_without_archives_says_the_steps_and_writes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ByHandError, match=r"(?s)1\. Sign in at .*2\. .*consep/downloads\n3\. Run: nucbench"):
            obtain(CoNSeP, tmp_path / "consep")
        assert not list(tmp_path.iterdir())

    def test_archives_in_downloads(self, zips: dict[str, bytes], tmp_path: Path) -> None:
        put(tmp_path / "downloads" / "any name (1).zip", zips["consep"])
        assert obtain(CoNSeP, tmp_path)
        assert len(CoNSeP(tmp_path).records) == 6

    def test_named_archives_complete_what_is_there(self, zips: dict[str, bytes], tmp_path: Path) -> None:
        folder = tmp_path / "consep"
        for part, count in (("train", 4), ("test", 6)):
            obtain(CoNSeP, folder, archives=[put(tmp_path / f"{part}.zip", zips[f"consep-{part}"])])
            assert len(CoNSeP(folder).records) == count
        before = snapshot(folder)
        obtain(CoNSeP, folder, archives=[tmp_path / "test.zip"])
        assert snapshot(folder) == before

    def test_nothing_is_overwritten(self, zips: dict[str, bytes], tmp_path: Path) -> None:
        path = put(tmp_path / "x.zip", zips["consep"])
        folder = tmp_path / "consep"
        mine = put(folder / "CoNSeP" / "Train" / "Images" / "train_1.png", b"mine")
        with pytest.raises(DataError, match=r"train_1\.png exists and differs"):
            obtain(CoNSeP, folder, archives=[path])
        assert mine.read_bytes() == b"mine"
        assert set(snapshot(folder)) <= {"CoNSeP/Train/Images/train_1.png", "downloads/.lock"}

    def test_real_images_are_not_mixed_with_synthetic_ones(self, zips: dict[str, bytes], tmp_path: Path) -> None:
        put(tmp_path / "consep" / SYNTHETIC_MARKER, b"")
        with pytest.raises(DataError, match="synthetic"):
            obtain(CoNSeP, tmp_path / "consep", archives=[put(tmp_path / "x.zip", zips["consep"])])

    @pytest.mark.parametrize(("name", "reason"), [("missing.zip", "not found"), ("x.rar", "is not an archive")])
    def test_archives_that_are_none(self, tmp_path: Path, name: str, reason: str) -> None:
        put(tmp_path / "x.rar", b"Rar!")
        with pytest.raises(ConfigError, match=reason):
            obtain(CoNSeP, tmp_path / "consep", archives=[tmp_path / name])

    def test_archive_of_something_else(self, zips: dict[str, bytes], tmp_path: Path) -> None:
        path = put(tmp_path / "x.zip", zips["tnbc"])
        with pytest.raises(DataError, match=r"x\.zip: CoNSeP not found in it; nothing was changed"):
            obtain(CoNSeP, tmp_path / "consep", archives=[path])
        assert presence(CoNSeP, tmp_path / "consep").state == "not found"

    def test_archive_of_archives(self, zips: dict[str, bytes], tmp_path: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("raw/consep_dataset.zip", zips["consep"])
        path = put(tmp_path / "x.zip", buffer.getvalue())
        with pytest.raises(DataError, match=r"contains archives \(raw/consep_dataset\.zip\): unpack it"):
            obtain(CoNSeP, tmp_path / "consep", archives=[path])

    def test_what_a_killed_call_has_left_is_moved(
        self, zips: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(tmp_path / "downloads" / "x.zip", zips["consep"])
        moves, rename = [0], Path.rename

        def dying(self: Path, target: Path) -> Path:
            moves[0] += ".ready" in self.parts
            if moves[0] > 5:
                raise KeyboardInterrupt
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            obtain(CoNSeP, tmp_path)
        monkeypatch.undo()
        (tmp_path / "downloads" / "x.zip").unlink()
        assert obtain(CoNSeP, tmp_path)
        assert len(CoNSeP(tmp_path).records) == 6
        assert not obtain(CoNSeP, tmp_path)

    def test_second_process(self, zips: dict[str, bytes], tmp_path: Path) -> None:
        put(tmp_path / "downloads" / "x.zip", zips["consep"])
        with (
            held(tmp_path / "downloads", "preparing a dataset from"),
            pytest.raises(BusyError, match="another process is preparing"),
        ):
            obtain(CoNSeP, tmp_path)

    def test_counts_are_checked_against_the_card(
        self, zips: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prepare_dataset("consep", tmp_path, archives=[put(tmp_path / "x.zip", zips["consep"])], progress=False)
        shown = capsys.readouterr().out
        assert "train: 4 images  (the release has 27)" in shown
        assert presence(CoNSeP, tmp_path / "consep").text(CoNSeP.card) == ("incomplete: 4 of 27 train, 2 of 14 test")


PLAIN = ("conic",)
"""Datasets whose files are no archives."""


@pytest.mark.parametrize("name", DATASETS)
def test_cards_say_how_to_get_the_data(name: str, tmp_path: Path) -> None:
    card = dataset_class(name).card
    for file in card.downloads:
        assert file.url.startswith("https://")
        assert archive.is_archive(Path(file.file))
        assert file.source
        if file.checksum is not None:
            algorithm, _, digits = file.checksum.partition(":")
            assert len(digits) == {"md5": 32, "sha256": 64}[algorithm]
            int(digits, 16)
    if card.images and "--synthetic" not in card.url:
        place = "{folder}" if name in PLAIN else "{downloads}"
        assert any(place in step for step in card.steps)
        assert card.steps[-1] == f"Run: nucbench prepare {name}"


# ---- the command line ---------------------------------------------------------------------------------------------


def test_command_line_downloads(server: Any, zips: dict[str, bytes], tmp_path: Path) -> None:
    server.files = {"here/ki67/KiNet-HEAD.zip": zips["ki67"]}
    server.behave = ["break 5000", "ok"]
    done = nucbench("prepare", "ki67", "--mirror", f"{server.url}/here", "--data", tmp_path, folder=tmp_path)
    assert "Ki67 in" in done.stdout
    assert "pinned at first download" in done.stdout
    assert "downloading KiNet-HEAD.zip" in done.stderr
    assert server.seen == ["", "bytes=5000-"]
    assert main(["prepare", "ki67", "--data", str(tmp_path)]) == 0
    assert len(server.seen) == 2, "what is there is only looked at"


def test_command_line_with_all(
    server: Any, zips: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files = {"ki67/KiNet-HEAD.zip": zips["ki67"], "monuseg/MoNuSeg_2018_Training_Data.zip": zips["train"]}
    arguments = ["--mirror", server.url, "--data", str(tmp_path)]
    # nobody can verify what the mirror has of Ki67; what it has of MoNuSeg and TNBC is not what their cards state
    assert main(["prepare", "--all", *arguments]) == 1
    shown = capsys.readouterr().out
    rows = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert set(DATASETS) <= set(rows)
    assert "fetched now" in rows["ki67"]
    assert "failed" in rows["monuseg"]
    assert "expected 25d3d318" in shown
    assert "failed" in rows["tnbc"]
    assert "offers a file of 300000 bytes" in shown
    assert "by hand: run nucbench prepare kumar" in rows["kumar"]
    named = put(tmp_path / "x.zip", zips["consep"])
    assert main(["prepare", "consep", "--from", str(named), "--data", str(tmp_path)]) == 0
    assert "unpacked x.zip" in capsys.readouterr().out
    assert main(["list", "datasets", "--verbose", "--data", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "incomplete: 4 of 27 train" in listed
    assert "download TNBC_NucleiSegmentation.zip: https://zenodo.org/" in listed
    assert "no published checksum" in listed
    assert f"2. Put it into {tmp_path}/tnbc/downloads" in listed


def test_command_line_with_all_and_nothing_to_download(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--all", "--synthetic", "--size", "48", "--data", str(tmp_path)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert sum("written now" in row for row in rows) == len(DATASETS)


def test_command_line_refuses(tmp_path: Path) -> None:
    for arguments, status, text in (
        (["prepare"], 2, "name one dataset"),
        (["prepare", "kumar", "--all"], 2, "name one dataset"),
        (["prepare", "kumra"], 2, "Did you mean 'kumar'"),
        (["prepare", "kumar"], 1, "Get it by hand"),
        (["prepare", "kumar", "--from", "x.zip"], 2, "archive x.zip not found"),
        (["prepare", "--all", "--from", "x.zip"], 2, "--from is for a single real dataset"),
        (["prepare", "kumar", "--mirror", "ftp://x"], 2, "give an address"),
    ):
        error = io.StringIO()
        with contextlib.redirect_stderr(error):
            assert main([*arguments, "--data", str(tmp_path / "empty")]) == status, arguments
        assert text in error.getvalue()
    assert not (tmp_path / "empty").exists()
