"""Stop signals: training finishes its current step and writes a checkpoint before it exits."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; end of a job or shutdown; sent by clusters before a time limit."""


class Stopped(BaseException):
    """A signal asked this process to stop. Stored results remain valid; the same command resumes from them.

    Like KeyboardInterrupt, it is not an `Exception`, so ``except Exception`` does not catch it.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def status(self) -> int:
        """Exit status of the stopped process, as in shells."""
        return 128 + self.number


class _Listener:
    """The received signal, and whether this process may be interrupted."""

    def __init__(self) -> None:
        self.signals: tuple[int, ...] = ()  # handled signals
        self.owner = 0  # process that handles signals: its forked workers inherit the handlers
        self.asked: int | None = None
        self.patient = False  # stop only between two training steps

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
        if self.patient or number != signal.SIGINT:  # Lightning handles KeyboardInterrupt itself
            raise Stopped(number)
        raise KeyboardInterrupt


_listener = _Listener()


def _end_as_usual(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def listen(*further: int) -> None:
    """Make signals raise `Stopped` (or KeyboardInterrupt); to be called by programs, not by libraries.

    Does nothing outside the main thread, which alone receives signals.

    Args:
        further: Signals in addition to `SIGNALS`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _listener.signals, _listener.owner = (*SIGNALS, *further), os.getpid()
    listen_again()


def listen_again() -> None:
    """Restore the signal handlers after a library replaced them, if this process handles signals."""
    if threading.current_thread() is threading.main_thread() and _listener.owner == os.getpid():
        for number in _listener.signals:
            signal.signal(number, _listener.hear)


def asked() -> int | None:
    """Return the signal that asked this process to stop, or None."""
    return _listener.asked


@contextmanager
def between_steps() -> Iterator[None]:
    """Defer a stop: within the block, check `asked` wherever the work can be interrupted.

    Raises:
        Stopped: At the end, if a signal was received and not handled.
    """
    _listener.patient, _listener.asked = True, None
    try:
        yield
    finally:
        _listener.patient = False
    if _listener.asked is not None:
        raise Stopped(_listener.asked)


__all__ = ["SIGNALS", "Stopped", "asked", "between_steps", "listen", "listen_again"]
