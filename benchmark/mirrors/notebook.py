"""`mirror.json`: which results of a run have been shown, and the id of its W&B run. Does not import torch."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

from benchmark.host.files import read_json, write_json
from postproc.errors import DataError


class Notebook:
    """State of the mirrors of a run directory; the file is written with the first entry.

    Args:
        folder: The run directory.
        run_id: Name of the run in the runs folder.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._file = folder / "mirror.json"
        self._place = [str(folder.resolve()), run_id]
        try:
            content = read_json(self._file)
        except DataError:  # missing or damaged: start a new W&B run
            content = {}
        token, shown = content.get("token"), content.get("shown")
        self._token = token if isinstance(token, str) else uuid.uuid4().hex
        self._shown = {str(k): [str(v) for v in vs] for k, vs in shown.items()} if isinstance(shown, dict) else {}

    @property
    def wandb_id(self) -> str:
        """Unique id of the W&B run; it does not change when the run resumes.

        It is a hash of a random token, the path of the directory, and the name of the run, which contains the hash of
        the spec. So a copy of the directory and a run of the same name on another machine have other ids.
        """
        return hashlib.sha256(json.dumps([self._token, *self._place]).encode()).hexdigest()[:16]

    def shown(self, mirror: str) -> tuple[str, ...]:
        """Return what a mirror has shown, in order."""
        return tuple(self._shown.get(mirror, ()))

    def keep(self) -> None:
        """Write the file to keep the id."""
        write_json(self._file, {"token": self._token, "wandb_id": self.wandb_id, "shown": self._shown})

    def note(self, mirror: str, what: str) -> None:
        """Record that a mirror has shown something."""
        if what not in self._shown.setdefault(mirror, []):
            self._shown[mirror].append(what)
            self.keep()
