"""Connection to W&B whose failures never reach the caller. Does not import torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

PROJECT = "nucbench"
"""W&B project if WANDB_PROJECT is not set."""
INIT_SECONDS = 30.0
"""Wait for an unreachable server before the run is mirrored offline; WANDB_INIT_TIMEOUT overrides it."""
FINISH_SECONDS = 60.0
"""Wait for pending uploads at the end of a run; WANDB_FINISH_TIMEOUT overrides it."""
FLUSH_SECONDS = 1.0
"""Interval at which W&B writes to disk. A kill loses at most this much, which the resumed run sends again."""


def warn(text: str, of: str = "W&B") -> None:
    """Print on one line what a mirror could not do."""
    print(f"{of}: {' '.join(text.split())}", file=sys.stderr, flush=True)


class Guard:
    """A mirror that never stops a run: its first failure prints one line, and later calls do nothing.

    Attributes:
        title: Name in messages.
        gone: Whether it has failed.
        remedy: What the user can do after a failure.
    """

    title = "W&B"
    gone = False
    remedy = ""

    def tell(self, action: Callable[[], object]) -> None:
        """Call `action` unless the mirror has failed; an exception marks it as failed."""
        if self.gone:
            return
        try:
            action()
        except Exception as error:  # no failure of a mirror may stop a run
            self.gone = True
            warn(
                f"gives up ({reason(error)}); the run continues, and its results are stored. {self.remedy}", self.title
            )


class WandbRun(Guard):
    """A W&B run that opens at the first use.

    Args:
        mode: ``offline`` or ``online``.
        folder: Folder in which W&B writes its subfolder ``wandb``.
        about: Returns further arguments of `wandb.init`, among them ``id`` and ``name``; called when the run opens. An
            existing run of this id is continued.
    """

    def __init__(self, mode: str, folder: Path, about: Callable[[], Mapping[str, Any]]) -> None:
        self._mode = mode
        self._folder = folder
        self._about = about
        self._experiment: Any = None
        self._own_data_folder = False

    @property
    def experiment(self) -> Any:
        """Run object of W&B."""
        if self._experiment is None:
            self._experiment = self._open()
            self.remedy = f"Later: wandb sync {self.path}"
        return self._experiment

    @property
    def path(self) -> Path:
        """Folder in which W&B stores this part of the run."""
        return Path(self.experiment.settings.sync_dir)

    def close(self, *, failed: bool = False) -> None:
        """End the W&B run if it is open, and print where to find it."""
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
                warn(f"could not upload everything ({reason(error)}). {self.remedy}")
        finally:
            self.gone = True
            end_service()  # flushes pending data; the next run starts a new service
            if self._own_data_folder:
                os.environ.pop("WANDB_DATA_DIR", None)

    def _open(self) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # an offline run must not contact a server
        os.environ.pop("WANDB_SERVICE", None)  # service of the parent process, which may end first
        self._folder.mkdir(parents=True, exist_ok=True)
        if "WANDB_DATA_DIR" not in os.environ:  # files of tables and artifacts, by default in the home folder
            os.environ["WANDB_DATA_DIR"] = str((self._folder / "wandb").resolve())
            self._own_data_folder = True
        about = {"project": os.environ.get("WANDB_PROJECT") or PROJECT, "dir": self._folder, **self._about()}
        about["tags"] = [tag[:64] for tag in about.get("tags", ())]  # maximum length in W&B
        if self._mode == "online":
            try:
                return _init(about, "online")
            except ImportError:
                raise
            except Exception as error:
                end_service()  # the failed service still claims the id
                run = _init(about, "offline")
                warn(f"cannot go online ({reason(error)}); offline instead. Later: wandb sync {run.settings.sync_dir}")
                return run
        return _init(about, "offline")


def _init(about: Mapping[str, Any], mode: Literal["online", "offline"]) -> Any:
    """Open a silent W&B run with time limits that records neither console output nor code."""
    import wandb

    settings: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "disable_code": True}
    settings |= {"finish_timeout_raises": True, "x_transaction_log_flush_interval": FLUSH_SECONDS}
    for name, seconds in (("init_timeout", INIT_SECONDS), ("finish_timeout", FINISH_SECONDS)):
        if f"WANDB_{name.upper()}" not in os.environ:
            settings[name] = seconds
    stdin = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing  # otherwise W&B asks for an account on the terminal, and waits
        try:
            return wandb.init(
                **about, mode=mode, resume="allow", reinit="finish_previous", settings=wandb.Settings(**settings)
            )
        finally:
            sys.stdin = stdin


def end_service() -> None:
    """End the service process of W&B after it has written its data; it may have died already."""
    import wandb

    with suppress(Exception):
        wandb.teardown()


def reason(error: Exception) -> str:
    """Return an error as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 240 else f"{text[:240]}..."
    return f"{text}; pip install wandb" if isinstance(error, ImportError) else text
