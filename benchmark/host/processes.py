"""Start of processes: settings that must precede heavy imports, and worker processes."""

from __future__ import annotations

import multiprocessing
import os
import threading

from benchmark.host.allocator import use_huge_pages
from benchmark.host.threads import use_one_thread, use_threads_well


def start_process() -> None:
    """Set what torch reads as it is loaded; each process except workers calls this first."""
    use_huge_pages()
    use_threads_well()


def start_worker() -> None:
    """Prepare a worker process: one thread, and an end together with its parent process."""
    use_one_thread()
    end_with_parent()


def end_with_parent() -> None:
    """End this worker when its parent process is killed; otherwise it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
