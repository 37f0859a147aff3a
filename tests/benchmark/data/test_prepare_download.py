"""Files fetched from a server that misbehaves; the server is a real one on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.data import download as downloading
from benchmark.data.download import CHECKSUMS, DownloadError, Patience, fetch
from benchmark.host.files import read_json
from datamodules.reading import archive
from datamodules.reading.card import Download
from postproc.errors import DataError

CONTENT = np.random.default_rng(0).bytes(300_000)
QUICK = Patience(tries=4, wait=0.01, timeout=2.0)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def file_at(server: Any, checksum: str | None = sha256(CONTENT), size: int | None = None) -> Download:
    return Download("x.zip", f"{server.url}/x.zip", size, checksum)


def get(server: Any, folder: Path, checksum: str | None = sha256(CONTENT), size: int | None = None) -> bytes:
    path = fetch(file_at(server, checksum, size), folder, progress=False, patience=QUICK)
    return path.read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestFetch:
    def test_once(self, server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        server.pause = 0.01
        for _ in range(2):
            assert get(server, tmp_path) == CONTENT
        assert server.seen == [""]
        assert names(tmp_path) == {"x.zip", CHECKSUMS}
        assert read_json(tmp_path / CHECKSUMS)["x.zip"]["checked"] == sha256(CONTENT)
        assert f"verified: {sha256(CONTENT)}" in capsys.readouterr().out

    @pytest.mark.parametrize("validator", ["etag", "modified", "none"])
    def test_goes_on_where_it_broke_off(self, server: Any, tmp_path: Path, validator: str) -> None:
        server.etag = '"1"' if validator == "etag" else ""
        server.modified = "Sat, 01 Jan 2022 00:00:00 GMT" if validator == "modified" else ""
        server.behave = ["break 100000", "break 50000", "ok"]
        assert get(server, tmp_path) == CONTENT
        assert server.seen == ["", "bytes=100000-", "bytes=150000-"]

    def test_goes_on_in_a_later_call(self, server: Any, tmp_path: Path) -> None:
        server.behave = ["break 120000", "status 503"]
        with pytest.raises(
            DownloadError, match=r"4 tries without progress .*503.*120000 bytes .* are in .*x\.zip\.part"
        ):
            get(server, tmp_path)
        assert names(tmp_path) == {"x.zip.part", "x.zip.part.json"}
        server.behave = ["ok"]
        assert get(server, tmp_path) == CONTENT
        assert server.seen[-1] == "bytes=120000-"
        assert names(tmp_path) == {"x.zip", CHECKSUMS}

    def test_part_that_is_complete(self, server: Any, tmp_path: Path) -> None:
        (tmp_path / "x.zip.part").write_bytes(CONTENT)
        about = {"url": f"{server.url}/x.zip", "etag": '"1"', "modified": "", "size": len(CONTENT)}
        (tmp_path / "x.zip.part.json").write_text(json.dumps(about))
        assert get(server, tmp_path) == CONTENT
        assert server.seen == [f"bytes={len(CONTENT)}-"]

    def test_server_that_ignores_range(self, server: Any, tmp_path: Path) -> None:
        server.behave = ["break 100000", "norange"]
        assert get(server, tmp_path) == CONTENT
        assert server.seen == ["", "bytes=100000-"]

    def test_server_that_sends_another_part(self, server: Any, tmp_path: Path) -> None:
        server.behave = ["break 100000", "shift 7", "ok"]
        assert get(server, tmp_path) == CONTENT
        assert server.seen == ["", "bytes=100000-", ""]

    @pytest.mark.parametrize("etag", ['"2"', ""])
    def test_file_that_changes_between_two_tries(self, server: Any, tmp_path: Path, etag: str) -> None:
        new = CONTENT[::-1] + b"more"
        if not etag:  # then only the checksum can tell
            server.etag, new = "", CONTENT[::-1]
        server.behave = ["break 100000", "status 500"]
        with pytest.raises(DownloadError):
            get(server, tmp_path, sha256(new))
        server.body, server.etag, server.behave = new, etag, ["ok"]
        assert get(server, tmp_path, sha256(new)) == new
        assert server.seen[-1] == ("bytes=100000-" if etag else "")

    def test_part_of_a_file_that_nobody_can_tell_apart_is_not_gone_on_with(self, server: Any, tmp_path: Path) -> None:
        server.etag, server.behave = "", ["break 100000", "ok"]
        assert get(server, tmp_path, None) == CONTENT
        assert server.seen == ["", ""]

    def test_wrong_bytes(self, server: Any, tmp_path: Path) -> None:
        server.body = b"wrong"
        expected = sha256(CONTENT).removeprefix("sha256:")
        found = hashlib.sha256(b"wrong").hexdigest()
        with pytest.raises(
            DownloadError, match=f"sha256 is {found}, but expected {expected} .*published.*kept as"
        ) as e:
            get(server, tmp_path)
        assert f"{server.url}/x.zip" in str(e.value)
        assert names(tmp_path) == {"x.zip.wrong"}
        server.body = CONTENT
        assert get(server, tmp_path) == CONTENT

    def test_md5(self, server: Any, tmp_path: Path) -> None:
        assert get(server, tmp_path, f"md5:{hashlib.md5(CONTENT).hexdigest()}") == CONTENT
        (tmp_path / "x.zip").unlink()
        with pytest.raises(DownloadError, match="md5 is"):
            get(server, tmp_path, f"md5:{'0' * 32}")

    def test_another_size_than_published(self, server: Any, tmp_path: Path) -> None:
        with pytest.raises(DownloadError, match=r"offers a file of 300000 bytes, but x\.zip has 299999"):
            get(server, tmp_path, size=299_999)
        assert get(server, tmp_path, size=300_000) == CONTENT

    def test_endless_body(self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server.length = False
        assert get(server, tmp_path / "a", None) == CONTENT
        monkeypatch.setattr(downloading, "MAX_BYTES", 200_000)
        with pytest.raises(DownloadError, match="more than 200000 bytes"):
            get(server, tmp_path / "b", None)

    def test_file_without_published_checksum_is_pinned(
        self, server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        get(server, tmp_path, None)
        shown = capsys.readouterr().out
        assert "pinned at first download; there is no published checksum to verify it" in shown
        assert hashlib.sha256(CONTENT).hexdigest() in shown
        assert "verified:" not in shown
        (tmp_path / "x.zip").unlink()
        server.body = b"another"
        with pytest.raises(DownloadError, match=r"expected .* \(the first download\)"):
            get(server, tmp_path, None)

    def test_file_that_is_there_and_differs_stays(self, server: Any, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(b"mine")
        with pytest.raises(DownloadError, match=r"expected .*; remove .* to download it again"):
            get(server, tmp_path)
        assert (tmp_path / "x.zip").read_bytes() == b"mine"
        assert server.seen == []

    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_statuses_that_stay(self, server: Any, tmp_path: Path, status: int) -> None:
        server.behave = [f"status {status}", "ok"]
        with pytest.raises(DownloadError, match=f"the server answers {status}"):
            get(server, tmp_path)
        assert len(server.seen) == 1

    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_statuses_that_pass(self, server: Any, tmp_path: Path, status: int) -> None:
        server.behave = [f"status {status}", f"status {status}", "ok"]
        assert get(server, tmp_path) == CONTENT

    def test_web_page_in_place_of_the_file(self, server: Any, tmp_path: Path) -> None:
        server.behave = ["html"]
        with pytest.raises(DownloadError, match=r"returns a web page instead of x\.zip"):
            get(server, tmp_path, None)
        assert names(tmp_path) == set()

    def test_server_that_falls_silent(self, server: Any, tmp_path: Path) -> None:
        server.behave = ["mute 1", "ok"]
        patience = dataclasses.replace(QUICK, timeout=0.3)
        assert fetch(file_at(server), tmp_path, progress=False, patience=patience).read_bytes() == CONTENT

    def test_no_server(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.zip"
        with pytest.raises(DownloadError, match=f"{url}: download failed after 4 tries .*Connection refused"):
            fetch(Download("x.zip", url), tmp_path, progress=False, patience=QUICK)

    def test_full_disk(self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: SimpleNamespace(free=700_000))
        for size in (None, len(CONTENT)):
            with pytest.raises(DataError, match=r"unpacking x\.zip takes about 0\.8 MB, and 0\.7 MB are free"):
                get(server, tmp_path, size=size)
        assert not list(tmp_path.iterdir())
