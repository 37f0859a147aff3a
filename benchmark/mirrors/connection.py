"""W&B runs of which no failure reaches the caller. Needs no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
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


def warn(text: str, of: str = "W&B") -> None:
    """Say on one line what a mirror could not do."""
    print(f"{of}: {' '.join(text.split())}", file=sys.stderr, flush=True)


class Guard:
    """A mirror that stops no run: its first failure is said on one line, and it is told nothing more.

    Attributes:
        title: Its name in messages.
        gone: Whether it has failed.
        remedy: What to do then.
    """

    title = "W&B"
    gone = False
    remedy = ""

    def tell(self, action: Callable[[], object]) -> None:
        """Call `action` unless the mirror is gone, or goes now."""
        if self.gone:
            return
        try:
            action()
        except Exception as error:  # whatever it is, it must not stop a run
            self.gone = True
            text = f"gives up ({reason(error)}); the run goes on, and its results are stored as ever. {self.remedy}"
            warn(text, self.title)


class WandbRun(Guard):
    """A W&B run that opens when it is first told something.

    Args:
        mode: ``offline`` or ``online``.
        folder: W&B's files come into ``wandb`` below it.
        about: Further arguments of `wandb.init`, ``id`` and ``name`` among them; called when the run opens. A run of
            that id is continued.
    """

    def __init__(self, mode: str, folder: Path, about: Callable[[], Mapping[str, Any]]) -> None:
        self._mode = mode
        self._folder = folder
        self._about = about
        self._experiment: Any = None
        self._own_data_folder = False

    @property
    def experiment(self) -> Any:
        """W&B's own object of the run."""
        if self._experiment is None:
            self._experiment = self._open()
            self.remedy = f"Later: wandb sync {self.path}"
        return self._experiment

    @property
    def path(self) -> Path:
        """Where W&B keeps what it was told: the folder of this part of the run."""
        return Path(self.experiment.settings.sync_dir)

    def close(self, *, failed: bool = False) -> None:
        """End the W&B run, if it was opened, and say where to find it."""
        run = self._experiment
        if run is None:
            return
        try:
            run.finish(exit_code=int(failed))
            if not self.gone:
                address = run.url if run.settings.mode == "online" else None
                print(f"W&B:     {address or f'wandb sync {self.path}'}", flush=True)
        except Exception as error:
            if not self.gone:
                warn(f"not all could be uploaded ({reason(error)}). {self.remedy}")
        finally:
            self.gone = True
            end_service()  # it writes what it holds; the next run has one of its own
            if self._own_data_folder:
                os.environ.pop("WANDB_DATA_DIR", None)

    def _open(self) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no call home of an offline run
        os.environ.pop("WANDB_SERVICE", None)  # that of a process that started this one, and may end before it
        self._folder.mkdir(parents=True, exist_ok=True)
        if "WANDB_DATA_DIR" not in os.environ:  # files of tables and artifacts: here too, not below the home folder
            os.environ["WANDB_DATA_DIR"] = str((self._folder / "wandb").resolve())
            self._own_data_folder = True
        about = {"project": os.environ.get("WANDB_PROJECT") or PROJECT, "dir": self._folder, **self._about()}
        about["tags"] = [tag[:64] for tag in about.get("tags", ())]  # W&B takes no longer ones
        if self._mode == "online":
            try:
                return _init(about, "online")
            except ImportError:
                raise
            except Exception as error:
                end_service()  # what failed still holds the id
                run = _init(about, "offline")
                warn(f"cannot go online ({reason(error)}); offline instead. Later: wandb sync {run.settings.sync_dir}")
                return run
        return _init(about, "offline")


def _init(about: Mapping[str, Any], mode: Literal["online", "offline"]) -> Any:
    """Open a run that is quiet, bounded in time, and blind to what is printed and to the code."""
    import wandb

    settings: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "disable_code": True}
    settings |= {"finish_timeout_raises": True, "x_transaction_log_flush_interval": FLUSH_SECONDS}
    for name, seconds in (("init_timeout", INIT_SECONDS), ("finish_timeout", FINISH_SECONDS)):
        if f"WANDB_{name.upper()}" not in os.environ:
            settings[name] = seconds
    stdin = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing  # W&B would ask the terminal for an account, and wait
        try:
            return wandb.init(
                **about, mode=mode, resume="allow", reinit="finish_previous", settings=wandb.Settings(**settings)
            )
        finally:
            sys.stdin = stdin


def end_service() -> None:
    """Let W&B's process beside this one write what it holds and end; it may be dead, too."""
    import wandb

    with suppress(Exception):
        wandb.teardown()


def reason(error: Exception) -> str:
    """Return an error on one line, short."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 240 else f"{text[:240]}..."
    return f"{text}; pip install wandb" if isinstance(error, ImportError) else text
