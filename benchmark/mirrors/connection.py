"""One W&B run, of which no failure reaches the caller. Needs no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PROJECT = "nucbench"
"""W&B project where WANDB_PROJECT names no other."""
INIT_SECONDS = 30.0
"""How long an unreachable server is waited for before the run is mirrored offline; WANDB_INIT_TIMEOUT overrides it."""
FINISH_SECONDS = 60.0
"""How long the end of a run waits for what is not uploaded yet; WANDB_FINISH_TIMEOUT overrides it."""

FLUSH_SECONDS = 1.0
"""How much of what W&B was told a kill may cost; what it costs comes again when the run goes on from its checkpoint."""


@dataclass(frozen=True)
class About:
    """What W&B is told of a run when it begins.

    Attributes:
        id: W&B id; a run of that id is continued.
        name: Shown name.
        group: What it is listed under.
        job_type: Kind of run in the group.
        tags: Words to filter by.
        config: JSON types.
    """

    id: str
    name: str
    group: str
    job_type: str
    tags: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


def warn(text: str, of: str = "W&B") -> None:
    """Say on one line what a mirror could not do."""
    print(f"{of}: {' '.join(text.split())}", file=sys.stderr, flush=True)


class Connection:
    """A W&B run that opens when it is first told something.

    Whatever W&B or the network do, the caller goes on: the first failure is said on one line, and W&B is told nothing
    more.

    Args:
        mode: ``offline`` or ``online``.
        folder: W&B's files come into ``wandb`` below it.
        about: What the run is; called when it opens.
    """

    def __init__(self, mode: str, folder: Path, about: Callable[[], About]) -> None:
        self._mode = mode
        self._folder = folder
        self._about = about
        self._run: Any = None
        self._step = 0
        self._gone = False
        self._data_folder: str | None = None

    @property
    def path(self) -> Path:
        """Where W&B keeps what it was told: the folder of this part of the run once it is open."""
        return Path(self._run.settings.sync_dir) if self._run is not None else self._folder / "wandb"

    def tell(self, action: Callable[[Any], None]) -> bool:
        """Call `action` with the W&B run; return False where it is gone, or goes now."""
        if self._gone:
            return False
        try:
            if self._run is None:
                self._run = self._open()
            action(self._run)
        except Exception as error:  # whatever it is, it must not stop a run
            self._gone = True
            warn(f"gives up ({_reason(error)}); the run goes on, and its results are stored as ever. {self._remedy()}")
            return False
        return True

    def log(self, values: Mapping[str, Any], step: int) -> bool:
        """Add values to the history; a step that lies before the last one counts as that."""
        self._step = max(self._step, step)
        return self.tell(lambda run: run.log(dict(values), step=self._step))

    def log_made(self, make: Callable[[], Mapping[str, Any]], step: int) -> bool:
        """Add tables and pictures to the history, made by `make` once the W&B run is open."""
        self._step = max(self._step, step)
        return self.tell(lambda run: run.log(dict(make()), step=self._step))

    def summarise(self, values: Mapping[str, Any]) -> bool:
        """Set summary values."""
        return self.tell(lambda run: run.summary.update(dict(values)))

    def configure(self, values: Mapping[str, Any]) -> bool:
        """Add to the configuration."""
        return self.tell(lambda run: run.config.update(dict(values), allow_val_change=True))

    def close(self, *, failed: bool = False) -> None:
        """End the W&B run, if it was opened, and say where to find it."""
        if self._run is None:
            return
        try:
            self._run.finish(exit_code=int(failed))
            if not self._gone:
                address = self._run.url if self._run.settings.mode == "online" else None
                print(f"W&B:     {address or 'wandb sync ' + str(self.path)}", flush=True)
        except Exception as error:
            if not self._gone:
                warn(f"not all could be uploaded ({_reason(error)}). {self._remedy()}")
        finally:
            self._gone = True
            end_service()  # it writes what it holds; the next run has one of its own
            self._restore_data_folder()

    def _open(self) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no call home of an offline run
        os.environ.pop("WANDB_SERVICE", None)  # that of a process that started this one, and may end before it
        try:
            import wandb  # noqa: F401  # asked for here, where its lack has a message
        except ImportError as error:
            raise RuntimeError(f"not installed, pip install wandb: {error}") from error
        self._folder.mkdir(parents=True, exist_ok=True)
        self._set_data_folder()
        about = self._about()
        if self._mode == "online":
            try:
                return self._init(about, "online")
            except Exception as error:
                end_service()  # what failed still holds the id
                run = self._init(about, "offline")
                warn(f"cannot go online ({_reason(error)}); offline instead. Later: wandb sync {run.settings.sync_dir}")
                return run
        return self._init(about, "offline")

    def _init(self, about: About, mode: Literal["online", "offline"]) -> Any:
        import wandb

        with _no_questions():
            return wandb.init(
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                id=about.id,
                name=about.name,
                group=about.group,
                job_type=about.job_type,
                tags=[tag[:64] for tag in about.tags],
                config=dict(about.config),
                dir=self._folder,
                mode=mode,
                resume="allow",
                reinit="finish_previous",
                settings=_settings(),
            )

    def _remedy(self) -> str:
        return f"Later: wandb sync {self.path}" if self._run is not None else ""

    def _set_data_folder(self) -> None:
        """Let W&B keep the files of tables and artifacts in the run directory too, not below the home folder."""
        if "WANDB_DATA_DIR" not in os.environ:
            self._data_folder = os.environ["WANDB_DATA_DIR"] = str((self._folder / "wandb").resolve())

    def _restore_data_folder(self) -> None:
        if self._data_folder is not None and os.environ.get("WANDB_DATA_DIR") == self._data_folder:
            del os.environ["WANDB_DATA_DIR"]


@contextmanager
def _no_questions() -> Iterator[None]:
    """Take the terminal from standard input, where W&B would ask for an account and wait."""
    stdin = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin


def _settings() -> Any:
    """Return how W&B behaves: quiet, bounded in time, blind to what is printed and to the code."""
    import wandb

    wanted: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "disable_code": True}
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        wanted["init_timeout"] = INIT_SECONDS
    wanted["finish_timeout_raises"] = True
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        wanted["finish_timeout"] = FINISH_SECONDS
    wanted["x_transaction_log_flush_interval"] = FLUSH_SECONDS
    known = wandb.Settings.model_fields  # versions differ
    return wandb.Settings(**{name: value for name, value in wanted.items() if name in known})


def end_service() -> None:
    """Let W&B's process beside this one write what it holds and end; it may be dead, too."""
    import wandb

    with suppress(Exception):
        wandb.teardown()


def _reason(error: Exception) -> str:
    """Return an error on one line, short."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:240]}..."
