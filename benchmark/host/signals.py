"""Signals that ask a process to stop: training finishes its step and writes a checkpoint before it does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; the end of a job or a machine; what clusters send ahead of a time limit."""


class Stopped(BaseException):
    """A signal asked this process to stop. What is stored stands, and the same command goes on from there.

    No error, as KeyboardInterrupt is none: ``except Exception`` lets it pass.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def status(self) -> int:
        """Exit status of a process that this ends, as shells give it."""
        return 128 + self.number


class _Listener:
    """What this process was asked, and whether it may be interrupted."""

    def __init__(self) -> None:
        self.signals: tuple[int, ...] = ()  # those that are listened to
        self.owner = 0  # process that listens: its forked workers inherit the handlers
        self.asked: int | None = None
        self.patient = False  # between two steps of training alone it stops

    def hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.owner:
            _end_as_usual(number)
            return
        again, self.asked = self.asked is not None, number
        if self.patient and not (again and number == signal.SIGINT):
            if not again:
                hint = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
                print(f"{signal.Signals(number).name}: stopping after this step{hint}", file=sys.stderr, flush=True)
            return
        if self.patient or number != signal.SIGINT:  # Lightning makes its own of a KeyboardInterrupt
            raise Stopped(number)
        raise KeyboardInterrupt


_listener = _Listener()


def _end_as_usual(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def listen(*further: int) -> None:
    """Let signals end this process by `Stopped` (or KeyboardInterrupt): to be called by programs, not by libraries.

    Does nothing outside the main thread, which alone hears signals.

    Args:
        further: Signals beside `SIGNALS`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _listener.signals, _listener.owner = (*SIGNALS, *further), os.getpid()
    listen_again()


def listen_again() -> None:
    """Take the signals back from a library that has taken them over, if this process listens at all."""
    if threading.current_thread() is threading.main_thread() and _listener.owner == os.getpid():
        for number in _listener.signals:
            signal.signal(number, _listener.hear)


def asked() -> int | None:
    """Return the signal that asked this process to stop, if one did."""
    return _listener.asked


@contextmanager
def between_steps() -> Iterator[None]:
    """Put a stop off: within the block, `asked` is to be looked at where the work can be left.

    Raises:
        Stopped: At the end, if a signal came and nothing has answered it.
    """
    _listener.patient, _listener.asked = True, None
    try:
        yield
    finally:
        _listener.patient = False
    if _listener.asked is not None:
        raise Stopped(_listener.asked)


__all__ = ["SIGNALS", "Stopped", "asked", "between_steps", "listen", "listen_again"]
