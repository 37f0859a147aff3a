"""Small images, and a server on this machine that misbehaves as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from datamodules.synthetic_sets import Synthetic

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves one body under any address, in the ways that `behave` names.

    Attributes:
        behave: What each request in turn does; the last one holds for all further ones. ``ok``; ``break N`` = N bytes,
            then the connection ends; ``status N``; ``html``; ``mute`` = no answer; ``norange`` = ignores Range.
        seen: Range header of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.body = CONTENT
        self.etag = '"1"'
        self.modified = ""
        self.length = True
        self.behave = ["ok"]
        self.pause = 0.0
        self.seen: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up, which they may."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range", "")
        server.seen.append(wanted)
        what, _, number = (server.behave.pop(0) if len(server.behave) > 1 else server.behave[0]).partition(" ")
        self.close_connection = True
        body = server.files.get(self.path.lstrip("/"), server.body)
        if what == "mute":
            time.sleep(float(number))
            return
        if what == "status":
            self.send_response(int(number))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and what != "norange" else 0
        current = self.headers.get("If-Range", "") in ("", server.etag or server.modified)
        if start and current:
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            shift = int(number or 0) if what == "shift" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
        else:
            start = 0
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.modified:
            self.send_header("Last-Modified", server.modified)
        self.send_header("Content-Type", "text/html; charset=utf-8" if what == "html" else "application/zip")
        if server.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + int(number) if what == "break" else len(body)
        for at in range(start, min(end, len(body)), 30_000):
            time.sleep(server.pause)
            self.wfile.write(body[at : min(at + 30_000, end)])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Small images to train on; nothing writes into their folder."""
    root = tmp_path_factory.mktemp("synthetic")
    Synthetic.write_synthetic(root, size=64)
    return Synthetic(root)
