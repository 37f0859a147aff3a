"""Download files over HTTP: interrupted downloads resume, and only complete, verified files get their name."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests
import urllib3

from benchmark.host.files import file_hash, read_json, write_json
from benchmark.host.progress import byte_bar
from datamodules.reading.archive import require_space
from datamodules.reading.card import Download
from postproc.errors import DataError

CHECKSUMS = "checksums.json"
"""File next to the downloads with their addresses, hashes, and what the hashes were compared with."""
SPACE = 2.5
"""Disk space needed per byte of download: the archive, its content, and a reserve."""

MAX_BYTES = 20_000_000_000
"""Maximum size of a download whose length is unknown."""

_CHUNK = 1 << 16
_GONE = (400, 401, 402, 403, 404, 405, 406, 407, 410, 451)
# permanent failures, not worth another try
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError)


@dataclass(frozen=True)
class Patience:
    """Limits of retries.

    Attributes:
        tries: Number of consecutive tries without progress before the download fails.
        wait: Seconds before the second try, doubled for each further try.
        longest: Maximum seconds between two tries.
        timeout: Seconds without data before a connection is closed.
    """

    tries: int = 5
    wait: float = 1.0
    longest: float = 30.0
    timeout: float = 30.0


class DownloadError(DataError):
    """A file cannot be downloaded, or is not the expected one."""


def fetch(
    download: Download,
    folder: Path,
    *,
    url: str | None = None,
    progress: bool = True,
    patience: Patience | None = None,
) -> Path:
    """Download a file unless it exists, check its hash and record it in `CHECKSUMS`.

    The hash must equal the checksum of the card or, if the card has none, the hash of the first download.

    Args:
        download: The file.
        folder: Folder of archives, created if missing.
        url: Address to use instead of that of the card.
        progress: Show a progress bar.
        patience: Limits of retries; None = `Patience()`.

    Returns:
        Path of the file in `folder`.

    Raises:
        DownloadError: If the file cannot be downloaded or has another hash.
        DataError: If there is not enough disk space.
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
        checked = download.checksum or "pinned at first download; there is no published checksum to verify it"
        notes[download.file] = {
            "url": url or download.url, "size": path.stat().st_size, "sha256": found, "checked": checked,
        }  # fmt: skip
        write_json(folder / CHECKSUMS, notes)
    print(f"{path}: {path.stat().st_size} bytes, sha256 {found}")
    print(f"  {'verified: ' if download.checksum else ''}{notes[download.file]['checked']}")
    return path


def _check(path: Path, expected: str | None, against: str, remedy: str) -> None:
    if expected is None:
        return
    algorithm, _, digits = expected.partition(":")
    found = file_hash(path, algorithm)
    if found != digits.lower():
        raise DownloadError(f"{path}: {algorithm} is {found}, but expected {digits} ({against}); {remedy}")


class ResumingDownloader:
    """Downloader for pooch that resumes interrupted downloads.

    Received bytes are stored as ``FILE.part``, and the headers of the server in ``FILE.part.json``. The rest is
    requested by HTTP Range with If-Range, so that a server whose file has changed sends the complete new file. The
    download starts over if the server ignores Range or contradicts its earlier headers.

    Args:
        folder: Folder of the partial file.
        download: The file.
        expected: Required hash, ``md5:...`` or ``sha256:...``; None = any.
        against: Origin of that hash, for messages.
        patience: Limits of retries.
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
        """Download `url` to `output_file`.

        Raises:
            DownloadError: If it cannot be downloaded, or has a wrong hash; the file is then kept as ``FILE.wrong``.
        """
        self._fetch(url)
        try:
            self._verify(url)
        except DownloadError:
            if not self._resumed:
                raise
            self._fetch(url)  # possibly parts of two versions: download the whole file once more
            self._verify(url)
        self._part.replace(output_file)
        self._about.unlink(missing_ok=True)

    # ---- tries ----------------------------------------------------------------------------------------------------

    def _fetch(self, url: str) -> None:
        """Try until the file is complete."""
        idle, most = 0, self._have()
        while True:
            reason, pause = "", 0.0
            try:
                if self._try(url):
                    return
                reason = "the connection was interrupted"
            except _BROKEN as error:
                reason = reason_of(error)
            except _BusyServerError as error:
                reason, pause = str(error), error.pause
            except _ChangedError as error:
                reason = str(error)
                self._forget()
            idle = 0 if self._have() > most else idle + 1
            most = max(most, self._have())
            if idle >= self._patience.tries:
                kept = f" The {self._have()} bytes received so far are in {self._part}; repeat the command to resume."
                raise DownloadError(
                    f"{url}: download failed after {idle} tries without progress ({reason})."
                    f"{kept if self._have() else ''}"
                )
            if idle:
                time.sleep(max(pause, min(self._patience.wait * 2 ** (idle - 1), self._patience.longest)))

    def _try(self, url: str) -> bool:
        """Request the missing bytes once; return whether the file is complete."""
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
                raise DownloadError(f"{url}: refused, because it redirects to {response.url}, which is not encrypted")
            status = response.status_code
            if status == 416:
                if have and about.get("size") == have:
                    return True
                raise _ChangedError("the file on the server is shorter than the bytes received")
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
        """Append the received bytes; return whether the file is complete."""
        limit = total or self._download.size or MAX_BYTES
        with byte_bar(self._download.file, have, total, self._progress) as step, self._part.open("ab") as file:
            for chunk in _chunks(response):
                have += len(chunk)
                if have > limit:
                    raise DownloadError(f"{response.url}: sends more than {limit} bytes, the size limit of the file")
                self._write(file, chunk)
                step(len(chunk))
        return total is None or have == total

    def _write(self, file: IO[bytes], chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:
            raise DataError(f"{self._part}: cannot be written ({error}); free disk space and repeat") from error

    # ---- what the server says -------------------------------------------------------------------------------------

    def _begin(self, url: str, response: requests.Response) -> int | None:
        """Store the headers and empty the partial file; return the size of the file, None if not stated."""
        headers = response.headers
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DownloadError(
                f"{url}: returns a web page instead of {self._download.file}; it may need a sign-in, or its download "
                "limit may be exceeded"
            )
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise DownloadError(f"{url}: sends the file with the unexpected encoding {headers['Content-Encoding']}")
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        stated = self._download.size
        if total is not None and stated is not None and total != stated:
            raise DownloadError(
                f"{url}: offers a file of {total} bytes, but {self._download.file} has {stated}; it is another version"
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
        """Check that the answer is the requested part; return the size of the whole file."""
        found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != have or found[3] == "*":
            raise _ChangedError(f"the server sends the wrong part ({response.headers.get('Content-Range')})")
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
        """Return the stored headers of the partial file; delete a partial file that cannot be resumed.

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
                raise DownloadError(f"{url}: received {self._have()} bytes, but the file has {self._download.size}")
            _check(self._part, self._expected, self._against, f"from {url}; kept as {self._wrong}")
        except DownloadError:
            self._part.replace(self._wrong)
            self._about.unlink(missing_ok=True)
            raise


class _ChangedError(Exception):
    """The file on the server differs from the partial file."""


class _BusyServerError(Exception):
    """A temporary failure of the server.

    Args:
        message: Message.
        pause: Seconds to wait, as requested by the server.
    """

    def __init__(self, message: str, pause: float) -> None:
        super().__init__(message)
        self.pause = pause


def reason_of(error: Exception) -> str:
    """Return the innermost cause wrapped by requests and urllib3, without the names of their objects."""
    inner = getattr(error.args[0], "reason", error) if error.args else error
    return str(inner).splitlines()[0].rpartition("): ")[2] or type(error).__name__


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield received bytes until the connection ends."""
    yield from response.raw.stream(_CHUNK, decode_content=False)


__all__ = ["CHECKSUMS", "Download", "DownloadError", "Patience", "ResumingDownloader", "fetch", "reason_of"]
