"""A W&B server to be tested against."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Server:
    """As much of a W&B server as a run needs: answers what a client asks first, and keeps what it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.runs: set[str] = set()
        self.history: list[dict[str, Any]] = []
        self.last = ""  # after this question it answers no more
        self.nonsense = ""  # to this question it answers nothing of use
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                answer = outer.answer(self.path, json.loads(body or b"{}"))
                self.reply(answer)

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.reply({})

            def reply(self, answer: dict[str, Any] | None) -> None:
                if answer is None:
                    self.close_connection = True
                    return
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, path: str, question: dict[str, Any]) -> dict[str, Any] | None:
        if self.last and self.last in self.asked:
            return None
        if path.endswith("/file_stream"):
            lines = question.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.history += [json.loads(line) for line in lines]
            return {"exitcode": None, "limits": {}}
        words = question.get("query", "").replace("(", " ").split()
        name = words[1] if len(words) > 1 else ""
        self.asked.append(name)
        given = question.get("variables", {})
        project = {"id": "p", "name": "nucbench", "entity": {"id": "e", "name": "someone"}}
        if name == self.nonsense:
            return {"data": {}}
        if name == "UpsertBucket":
            self.runs.add(given["name"])
            bucket = {"id": "b", "name": given["name"], "displayName": given["name"], "description": "", "config": "{}"}
            bucket |= {"sweepName": None, "project": project, "historyLineCount": 0}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if name == "Viewer":
            return {"data": {"viewer": {"id": "v", "entity": "someone", "username": "someone", "flags": "{}"}}}
        if name == "RunResumeStatus":
            return {"data": {"model": {**project, "bucket": None}}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/put/{file}"} for file in given["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": None, "errors": [{"message": f"no answer to {name}"}]}


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()
