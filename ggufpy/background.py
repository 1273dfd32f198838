"""Long calls into C that signals can interrupt: they run on a thread of their own, the caller waits."""

from __future__ import annotations

import _thread
from collections.abc import Callable

NO_THREAD = "can't start new thread"  # Python says it in a RuntimeError


def wait_for(work: Callable[[], object]) -> None:
    """Call `work` on another thread, and wait for its end, however late it begins.

    What a signal handler raises meanwhile comes through at once: the caller sees to it that the work ends.
    Where no thread is to be had, `work` is called here, and signals wait.
    """
    # Not threading.Thread and Event: they wait in Python, where a signal may leave a lock half taken.
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            work()
        finally:
            done.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError as exc:
        if NO_THREAD not in str(exc):
            raise
        run()
    done.acquire()
