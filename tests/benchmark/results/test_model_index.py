"""Indexes of models: the shipped one, those of a lab on a server or a disk, damaged and hostile ones."""

from __future__ import annotations

import dataclasses
import io
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.commands.cli import main
from benchmark.data import download
from benchmark.data.download import Patience
from benchmark.host.files import file_hash
from benchmark.results import model_index
from benchmark.results.known_models import find_model
from benchmark.results.model_cache import obtain_model
from benchmark.results.model_folder import DESCRIPTION, WEIGHTS, Description, shipped_models
from benchmark.results.model_index import VARIABLE, own_index, read_index, shipped_index
from benchmark.results.parent import find_parent
from benchmark.runs.archive import check_archive, write_archive
from postproc.errors import ConfigError, DataError, InputWarning


class Lab:
    """A lab with one model: its folder, the archive and index of it, both on a server too."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.folder, self.server = folder / "ours", server
        shutil.copytree(shipped_models()["default"], self.folder)
        described = Description.read(self.folder)
        dataclasses.replace(described, name="ours").write(self.folder)
        self.index = folder / "index.yaml"
        self.index.write_text(write_archive(self.folder, "A test."))
        self.archive = folder / "ours.zip"
        server.body = b""
        server.files = {"lab/index.yaml": self.index.read_bytes(), "lab/ours.zip": self.archive.read_bytes()}
        self.address = f"{server.url}/lab/index.yaml"

    def rewrite(self, **changes: object) -> None:
        content = yaml.safe_load(self.index.read_text())
        entry = {**content["models"]["ours"], **changes}
        content["models"]["ours"] = {name: value for name, value in entry.items() if value is not None}
        self.index.write_text(yaml.safe_dump(content))
        self.server.files["lab/index.yaml"] = self.index.read_bytes()

    def pack(self, members: dict[str, bytes]) -> None:
        """Give the archive other members, and the index its hash."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        self.archive.write_bytes(packed.getvalue())
        self.server.files["lab/ours.zip"] = packed.getvalue()
        self.rewrite(sha256=file_hash(self.archive), size=len(packed.getvalue()))


@pytest.fixture
def lab(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (tmp_path / "lab").mkdir()
    made = Lab(tmp_path / "lab", server)
    monkeypatch.setenv("NUCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, made.address)
    monkeypatch.setattr(download, "Patience", lambda: Patience(tries=2, wait=0.01, timeout=2.0))
    model_index._of_address.cache_clear()
    return made


def same(folder: Path | None, other: Path) -> bool:
    assert folder is not None
    names = sorted(path.name for path in other.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    return all(file_hash(folder / name) == file_hash(other / name) for name in names)


def test_the_shipped_index_is_that_of_the_shipped_models() -> None:
    found = shipped_index()
    assert set(found) == set(shipped_models())
    for name, folder in shipped_models().items():
        model, entry = Description.read(folder), found[name].entry
        assert entry.sha256 == file_hash(folder / WEIGHTS) == model.sha256
        assert entry.size == (folder / WEIGHTS).stat().st_size
        assert (entry.method, entry.types, entry.licence) == (model.method, model.types, model.licence)
        assert entry.trained_on == model.trained_on
        assert obtain_model(found[name]) == folder


def test_an_index_without_the_variable_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert own_index() == {}


class TestFromAServer:
    def test_downloaded_and_unpacked_once(self, lab: Lab) -> None:
        folder = find_model(Path("ours"))
        assert same(folder, lab.folder)
        requests = len(lab.server.seen)
        assert requests == 2  # the index and the archive
        assert find_model(Path("ours")) == folder
        assert find_parent("ours")[0].name == "ours"  # as run --start-from
        assert len(lab.server.seen) == requests
        place = folder.parent if folder.parent.name != "model" else folder.parent.parent
        assert not list(place.glob("*.zip"))

    def test_an_interrupted_download_resumes(self, lab: Lab) -> None:
        lab.server.behave = ["ok", "break 1000000", "ok"]
        assert same(find_model(Path("ours")), lab.folder)
        assert lab.server.seen == ["", "", "bytes=1000000-"]

    @pytest.mark.parametrize("harm", ["weights changed", "weights lost", "description torn"])
    def test_a_torn_copy_is_replaced(self, lab: Lab, harm: str, capsys: pytest.CaptureFixture[str]) -> None:
        folder = find_model(Path("ours"))
        assert folder is not None
        if harm == "weights changed":
            with (folder / WEIGHTS).open("r+b") as file:
                file.write(b"0" * 100)
        elif harm == "weights lost":
            (folder / WEIGHTS).unlink()
        else:
            (folder / DESCRIPTION).write_text("format: 1\nname: [")
        assert same(find_model(Path("ours")), lab.folder)
        assert "it is replaced" in capsys.readouterr().out

    def test_a_mirror_serves_it_instead(self, lab: Lab) -> None:
        lab.server.files["far/ours/ours.zip"] = lab.server.files.pop("lab/ours.zip")
        assert main(["models", "ours", "--mirror", f"{lab.server.url}/far"]) == 0
        assert same(find_model(Path("ours")), lab.folder)

    def test_a_wrong_hash_names_file_and_both_hashes(self, lab: Lab, tmp_path: Path) -> None:
        size = lab.archive.stat().st_size
        lab.server.files["lab/ours.zip"] = b"x" * size
        with pytest.raises(DataError) as error:
            find_model(Path("ours"))
        (tmp_path / "x").write_bytes(b"x" * size)
        for text in ("lab/ours.zip", file_hash(tmp_path / "x"), file_hash(lab.archive)):
            assert text in str(error.value)

    def test_without_a_network_the_message_says_what_to_do(self, lab: Lab) -> None:
        lab.server.behave = ["ok", "status 503"]
        with pytest.raises(DataError, match=r"503.*\n.*--mirror ADDRESS, or unpack ours\.zip"):
            find_model(Path("ours"))

    def test_the_last_copy_of_an_index_serves_without_a_network(self, lab: Lab) -> None:
        folder = find_model(Path("ours"))
        lab.server.behave = ["status 503"]
        model_index._of_address.cache_clear()
        with pytest.warns(InputWarning, match=r"503.*using the copy"):
            assert find_model(Path("ours")) == folder

    def test_an_index_that_never_answered_is_an_error(self, lab: Lab) -> None:
        lab.server.behave = ["status 404"]
        with pytest.raises(DataError, match=r"404.*check the network, or give a copy of the file"):
            find_model(Path("ours"))

    def test_two_threads_get_it_once(self, lab: Lab) -> None:
        lab.server.pause = 0.002
        found: list[Path | None] = []
        threads = [threading.Thread(target=lambda: found.append(find_model(Path("ours")))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] == found[1]
        assert same(found[0], lab.folder)
        assert 2 <= len(lab.server.seen) <= 3  # the index once or twice, the archive once


class TestFromADisk:
    def test_an_archive_next_to_the_index(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, str(lab.index))
        assert same(find_model(Path("ours")), lab.folder)
        assert lab.archive.is_file()
        assert not lab.server.seen

    def test_an_archive_with_another_hash(self, lab: Lab) -> None:
        lab.rewrite(sha256="0" * 64)
        with pytest.raises(DataError, match=rf"ours\.zip: sha256 is {file_hash(lab.archive)}, but expected 0{{64}} "):
            obtain_model(read_index(str(lab.index))["ours"])

    def test_a_folder(self, lab: Lab) -> None:
        sha256 = Description.read(lab.folder).sha256
        lab.rewrite(archive=None, folder="ours", sha256=sha256)
        assert obtain_model(read_index(str(lab.index))["ours"]) == lab.folder
        lab.rewrite(archive=None, folder="ours", sha256="0" * 64)
        with pytest.raises(DataError, match=f"describes weights with {sha256}; correct the index"):
            obtain_model(read_index(str(lab.index))["ours"])


class TestWrongArchives:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"card.md": b"nothing"}, "it has no model.yaml"),
            ({"a/model.yaml": b"format: 1", "a/b.txt": b""}, "names no name"),
            ({"../model.yaml": b"format: 1"}, "leads out of the folder"),
            ({"model.yaml": None, "weights.safetensors": b"torn"}, "its sha256 differs"),
        ],
    )
    def test_are_refused_and_leave_nothing(
        self, lab: Lab, tmp_path: Path, change: dict[str, bytes | None], message: str
    ) -> None:
        whole = (lab.folder / DESCRIPTION).read_bytes()
        lab.pack({name: whole if content is None else content for name, content in change.items()})
        with pytest.raises(DataError, match=message):
            find_model(Path("ours"))
        assert not list((tmp_path / "cache").rglob("model.yaml"))
        assert not list(tmp_path.rglob("b.txt"))


class TestWrongIndexes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"size": "big"}, r"models\.ours: size is 'big', expected a whole number"),
            ({"sha256": "abc"}, r"models\.ours: sha256 is 'abc', expected 64 hexadecimal digits"),
            ({"licence": None}, r"models\.ours names no licence"),
            ({"licens": "CC0"}, r"models\.ours: unknown key 'licens'"),
            ({"archive": None}, r"models\.ours: it needs one of archive and folder"),
            ({"archive": "ftp://a/b.zip"}, r"models\.ours: archive is 'ftp://a/b\.zip', expected an address"),
            ({"archive": "https://a/b"}, r"models\.ours: archive is 'https://a/b', expected a file \.zip"),
        ],
    )
    def test_name_file_and_key(self, lab: Lab, changes: dict[str, object], message: str) -> None:
        lab.rewrite(**changes)
        with pytest.raises(DataError, match=rf"index\.yaml: {message}") as error:
            read_index(str(lab.index))
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("format: 2\nmodels: {}", "format is 2, expected 1"),
            ("format: 1", "names no models"),
            ("- 1", "must hold a mapping"),
            ("format: 1\nmodels: [", "not readable as YAML"),
            ("format: 1\nmodels: {../x: {}}", "the model name '../x' needs"),
            ("<html></html>", "must hold a mapping"),
        ],
    )
    def test_name_what_is_wrong(self, lab: Lab, text: str, message: str) -> None:
        lab.server.files["lab/index.yaml"] = text.encode()
        with pytest.raises(DataError, match=rf"^{lab.address}.*{message}"):
            read_index(lab.address)

    def test_a_missing_file_is_a_wrong_argument(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no\.yaml does not exist; --index and NUCBENCH_MODELS name"):
            read_index(str(tmp_path / "no.yaml"))

    def test_the_name_of_a_shipped_model_is_taken(self, lab: Lab) -> None:
        lab.index.write_text(lab.index.read_text().replace("  ours:", "  default:"))
        with pytest.raises(DataError, match=r"models\.default has the name of a model that nucbench includes"):
            own_index(str(lab.index))

    def test_an_unknown_name_lists_those_of_both(self, lab: Lab) -> None:
        with pytest.raises(ConfigError, match=r"Did you mean 'ours'.*default.*hover-lite-types.*ours"):
            find_model(Path("oours"))


def test_the_list_shows_both(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv(VARIABLE)
    assert main(["models"]) == 0
    assert "ours" not in capsys.readouterr().out
    assert main(["models", "--index", lab.address]) == 0
    shown = capsys.readouterr().out
    assert "download" in shown
    assert f"{VARIABLE}={lab.address}" in shown
    assert main(["models", "ours", "--index", lab.address]) == 0
    capsys.readouterr()
    assert main(["models", "--index", lab.address]) == 0
    assert "on this machine" in capsys.readouterr().out
    assert main(["models", "mine", "--index", lab.address]) == 2
    assert "unknown model 'mine'" in capsys.readouterr().err


def test_an_archive_is_the_same_file_each_time_and_never_overwritten(lab: Lab, tmp_path: Path) -> None:
    again = Path(shutil.copytree(lab.folder, tmp_path / "ours"))
    write_archive(again, "")
    assert file_hash(tmp_path / "ours.zip") == file_hash(lab.archive)
    with pytest.raises(ConfigError, match="never overwritten"):
        check_archive(again, "")
    with pytest.raises(ConfigError, match="give another --name"):
        check_archive(tmp_path / "new", "a model")
