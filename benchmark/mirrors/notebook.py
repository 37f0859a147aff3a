"""`mirror.json`: what of a run directory has been shown elsewhere, and under which name. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

from benchmark.host.files import read_json, write_json
from postproc.errors import DataError


class Notebook:
    """What is remembered about the mirrors of one run directory; its file is written with the first entry.

    Args:
        folder: The run directory.
        run_id: Its name below the runs folder.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._file = folder / "mirror.json"
        self._place = [str(folder.resolve()), run_id]
        try:
            content = read_json(self._file)
        except DataError:  # new, or not readable: a new W&B run then
            content = {}
        token, shown = content.get("token"), content.get("shown")
        self._token = token if isinstance(token, str) else uuid.uuid4().hex
        self._shown = {str(k): [str(v) for v in vs] for k, vs in shown.items()} if isinstance(shown, dict) else {}

    @property
    def wandb_id(self) -> str:
        """Id of the W&B run: the same whenever this run goes on, and no other run's.

        It is made of a token drawn once, where the directory lies, and its name, which holds the hash of the spec. So
        a copy of the directory, or a run of that name on another machine, has an id of its own.
        """
        return hashlib.sha256(json.dumps([self._token, *self._place]).encode()).hexdigest()[:16]

    def shown(self, mirror: str) -> tuple[str, ...]:
        """Return what a mirror has been shown, in that order."""
        return tuple(self._shown.get(mirror, ()))

    def keep(self) -> None:
        """Write the file, so that the id lasts."""
        write_json(self._file, {"token": self._token, "wandb_id": self.wandb_id, "shown": self._shown})

    def note(self, mirror: str, what: str) -> None:
        """Remember that a mirror has been shown something."""
        if what not in self._shown.setdefault(mirror, []):
            self._shown[mirror].append(what)
            self.keep()
