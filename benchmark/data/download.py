"""Fetch files over HTTP: broken-off downloads go on, what arrives is checked, nothing half-done takes a file's name."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests
import urllib3

from benchmark.host.files import read_json, write_json
from benchmark.host.progress import byte_bar
from datamodules.reading.archive import require_space
from datamodules.reading.card import Download
from postproc.errors import DataError

CHECKSUMS = "checksums.json"
"""File beside the downloads that says what was fetched from where, and what its hash was compared with."""
SPACE = 2.5
"""Bytes of disk taken per byte of download: the archive, what is unpacked of it, and some room."""

MAX_BYTES = 20_000_000_000
"""Bytes after which a download whose length nobody states is given up."""

_CHUNK = 1 << 16
_GONE = (400, 401, 402, 403, 404, 405, 406, 407, 410, 451)
# statuses that another try does not change
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError)


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        tries: Tries in a row that bring nothing new, after which the download is given up.
        wait: Seconds before the second try; doubled before each further one.
        longest: Most seconds between two tries.
        timeout: Seconds without an answer, or without a byte, after which a connection is given up.
    """

    tries: int = 5
    wait: float = 1.0
    longest: float = 30.0
    timeout: float = 30.0


class DownloadError(DataError):
    """A file that cannot be fetched, or is not the one expected."""


def fetch(
    download: Download,
    folder: Path,
    *,
    url: str | None = None,
    progress: bool = True,
    patience: Patience | None = None,
) -> Path:
    """Fetch a file unless it is there, check its hash and note it in `CHECKSUMS`.

    A card that states a checksum is the measure; without one, what was first downloaded is, if anything was.

    Args:
        download: The file.
        folder: Folder of archives, created where missing.
        url: Address to fetch it from in place of the card's.
        progress: Show a progress bar.
        patience: How long to try; None = `Patience()`.

    Returns:
        The file in `folder`.

    Raises:
        DownloadError: If the file cannot be fetched or has another hash.
        DataError: If the disk is too small.
    """
    import pooch

    path = folder / download.file
    notes = read_json(folder / CHECKSUMS) if (folder / CHECKSUMS).exists() else {}
    pinned = notes.get(download.file, {}).get("sha256")
    expected = download.checksum or (f"sha256:{pinned}" if pinned else None)
    against = "the published checksum" if download.checksum else "the first download"
    if path.exists():
        _check(path, expected, against, f"remove {path} to download it again")
    else:
        if download.size is not None:
            require_space(folder, SPACE * download.size, f"downloading and unpacking {download.file}")
        folder.mkdir(parents=True, exist_ok=True)
        pooch.get_logger().setLevel("WARNING")
        fetcher = ResumingDownloader(folder, download, expected, against, patience or Patience(), progress=progress)
        address = url or download.url
        pooch.retrieve(address, known_hash=expected, fname=path.name, path=folder, downloader=fetcher)
    found = file_hash(path, "sha256")
    if notes.get(download.file, {}).get("sha256") != found or "checked" not in notes[download.file]:
        checked = download.checksum or "pinned at first download, no published checksum to verify it with"
        notes[download.file] = {
            "url": url or download.url, "size": path.stat().st_size, "sha256": found, "checked": checked,
        }  # fmt: skip
        write_json(folder / CHECKSUMS, notes)
    print(f"{path}: {path.stat().st_size} bytes, sha256 {found}")
    print(f"  {'verified: ' if download.checksum else ''}{notes[download.file]['checked']}")
    return path


def file_hash(path: Path, algorithm: str) -> str:
    """Return the hash of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _check(path: Path, expected: str | None, against: str, remedy: str) -> None:
    if expected is None:
        return
    algorithm, _, digits = expected.partition(":")
    found = file_hash(path, algorithm)
    if found != digits.lower():
        raise DownloadError(f"{path}: its {algorithm} is {found}, expected {digits} ({against}); {remedy}")


class ResumingDownloader:
    """Downloader for pooch that goes on where a former try broke off.

    What has arrived is kept as ``FILE.part``, with what the server said about the file in ``FILE.part.json``. The rest
    is asked for by HTTP Range, with If-Range, so that a server whose file has changed sends the whole of the new one.
    A server that ignores Range, or contradicts what it said before, makes the download begin anew.

    Args:
        folder: Folder of the partial file.
        download: The file.
        expected: Hash that it must have, ``md5:...`` or ``sha256:...``; None = any.
        against: What that hash is, for the message.
        patience: How long to try.
        progress: Show a progress bar.
    """

    def __init__(
        self,
        folder: Path,
        download: Download,
        expected: str | None,
        against: str,
        patience: Patience,
        *,
        progress: bool,
    ) -> None:
        self._download = download
        self._part = folder / f"{download.file}.part"
        self._about = folder / f"{download.file}.part.json"
        self._wrong = folder / f"{download.file}.wrong"
        self._expected = expected
        self._against = against
        self._patience = patience
        self._progress = progress
        self._resumed = False

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Fetch `url` into `output_file`.

        Raises:
            DownloadError: If it cannot be fetched, or has another hash than expected; it is then kept as
                ``FILE.wrong``.
        """
        self._fetch(url)
        try:
            self._verify(url)
        except DownloadError:
            if not self._resumed:
                raise
            self._fetch(url)  # parts of two versions of the file, perhaps: it is fetched once more as a whole
            self._verify(url)
        self._part.replace(output_file)
        self._about.unlink(missing_ok=True)

    # ---- tries ----------------------------------------------------------------------------------------------------

    def _fetch(self, url: str) -> None:
        """Try until the whole file is there."""
        idle, most = 0, self._have()
        while True:
            reason, pause = "", 0.0
            try:
                if self._try(url):
                    return
                reason = "the connection broke off"
            except _BROKEN as error:
                reason = _reason(error)
            except _BusyServerError as error:
                reason, pause = str(error), error.pause
            except _ChangedError as error:
                reason = str(error)
                self._forget()
            idle = 0 if self._have() > most else idle + 1
            most = max(most, self._have())
            if idle >= self._patience.tries:
                kept = (
                    f" The {self._have()} bytes that have arrived stay in {self._part}; the same command goes on there."
                )
                raise DownloadError(
                    f"{url}: cannot be downloaded, {idle} tries in a row brought nothing new ({reason})."
                    f"{kept if self._have() else ''}"
                )
            if idle:
                time.sleep(max(pause, min(self._patience.wait * 2 ** (idle - 1), self._patience.longest)))

    def _try(self, url: str) -> bool:
        """Ask for what is missing, once; tell whether the file is complete."""
        about = self._known(url)
        have = self._have()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator := about.get("etag") or about.get("modified"):
                headers["If-Range"] = validator
        timeout = self._patience.timeout
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise DownloadError(f"{url}: leads to {response.url}, which is not encrypted; refused")
            status = response.status_code
            if status == 416:
                if have and about.get("size") == have:
                    return True
                raise _ChangedError("the file on the server is shorter than what has arrived of it")
            total: int | None
            if status == 206:
                self._resumed = True
                total = self._check_range(response, have, about)
            elif status == 200:
                have, total = 0, self._begin(url, response)
            else:
                raise self._status_error(url, response)
            return self._receive(response, have, total)

    def _receive(self, response: requests.Response, have: int, total: int | None) -> bool:
        """Append what comes; tell whether it is all there."""
        limit = total or self._download.size or MAX_BYTES
        with byte_bar(self._download.file, have, total, self._progress) as step, self._part.open("ab") as file:
            for chunk in _chunks(response):
                have += len(chunk)
                if have > limit:
                    raise DownloadError(f"{response.url}: sends more than the {limit} bytes that the file may have")
                self._write(file, chunk)
                step(len(chunk))
        return total is None or have == total

    def _write(self, file: IO[bytes], chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:
            raise DataError(f"{self._part}: cannot be written ({error}); make room and go on") from error

    # ---- what the server says -------------------------------------------------------------------------------------

    def _begin(self, url: str, response: requests.Response) -> int | None:
        """Note what the server says about the file and empty the part; return the file's bytes, None if untold."""
        headers = response.headers
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DownloadError(
                f"{url}: answers with a web page in place of {self._download.file}, perhaps to ask for a sign-in or to "
                "say that too many have downloaded it"
            )
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise DownloadError(f"{url}: sends the file in another encoding ({headers['Content-Encoding']})")
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        stated = self._download.size
        if total is not None and stated is not None and total != stated:
            raise DownloadError(
                f"{url}: offers a file of {total} bytes, and {self._download.file} has {stated}; it is another version"
            )
        etag = headers.get("ETag", "")
        about = {
            "url": url,
            "etag": "" if etag.startswith("W/") else etag,
            "modified": headers.get("Last-Modified", ""),
            "size": total,
        }
        if total is not None:
            require_space(self._part.parent, SPACE * total, f"downloading and unpacking {self._download.file}")
        self._part.write_bytes(b"")
        write_json(self._about, about)
        return total

    def _check_range(self, response: requests.Response, have: int, about: Mapping[str, Any]) -> int:
        """Return the bytes of the whole file, after checking that the answer is the part that was asked for."""
        found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != have or found[3] == "*":
            raise _ChangedError(f"the server sends another part ({response.headers.get('Content-Range')})")
        total = int(found[3])
        etag = response.headers.get("ETag", "")
        if about.get("size") not in (None, total) or (about.get("etag") and etag and etag != about["etag"]):
            raise _ChangedError("the file on the server has changed")
        return total

    def _status_error(self, url: str, response: requests.Response) -> Exception:
        status = f"{response.status_code} {response.reason}".strip()
        if response.status_code in _GONE:
            return DownloadError(f"{url}: the server answers {status}; the address may have moved or need a sign-in")
        after = response.headers.get("Retry-After", "")
        pause = float(after) if after.isdecimal() else 0.0
        return _BusyServerError(f"the server answers {status}", min(pause, self._patience.longest))

    # ---- what has arrived -----------------------------------------------------------------------------------------

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _known(self, url: str) -> dict[str, Any]:
        """Return what the server said of the file that has arrived in part; forget a part that cannot be gone on with.

        Without a validator of the server, only a checksum can tell whether two parts belong together.
        """
        try:
            about = read_json(self._about)
        except DataError:
            about = {}
        known = about.get("url") == url and (about.get("etag") or about.get("modified") or self._expected)
        if self._have() and not known:
            self._forget()
        return about if known else {}

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def _verify(self, url: str) -> None:
        try:
            if self._download.size not in (None, self._have()):
                raise DownloadError(f"{url}: {self._have()} bytes came, and the file has {self._download.size}")
            _check(self._part, self._expected, self._against, f"from {url}; kept as {self._wrong}")
        except DownloadError:
            self._part.replace(self._wrong)
            self._about.unlink(missing_ok=True)
            raise


class _ChangedError(Exception):
    """What the server has is not what has arrived in part."""


class _BusyServerError(Exception):
    """A status that may pass.

    Args:
        message: For people.
        pause: Seconds that the server asks to wait.
    """

    def __init__(self, message: str, pause: float) -> None:
        super().__init__(message)
        self.pause = pause


def _reason(error: Exception) -> str:
    """Return the innermost cause that requests and urllib3 have wrapped, without their objects' names."""
    inner = getattr(error.args[0], "reason", error) if error.args else error
    return str(inner).splitlines()[0].rpartition("): ")[2] or type(error).__name__


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield what comes, up to where the connection breaks off."""
    yield from response.raw.stream(_CHUNK, decode_content=False)


__all__ = ["CHECKSUMS", "Download", "DownloadError", "Patience", "ResumingDownloader", "fetch", "file_hash"]
