"""Long calls into C that Ctrl-C can end: they run on a thread of their own, the caller waits for signals."""

from __future__ import annotations

import threading
from collections.abc import Callable

# A thread that was asked for is running by then, or never will be.
_START_SECONDS = 1.0


def run_interruptibly(work: Callable[[], int], stop: Callable[[], None]) -> int:
    """Return what `work` returns; on KeyboardInterrupt call `stop`, wait for its end, then raise.

    However often the interrupt comes, `work` has ended when this returns: it uses memory of the caller's.
    """
    results: list[int] = []
    begun, done = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        try:
            results.append(work())
        finally:
            done.set()

    interrupt = _uninterrupted(threading.Thread(target=run, name="ggufpy-eval").start)
    if interrupt:
        stop()
        _uninterrupted(lambda: begun.wait(_START_SECONDS))
    while begun.is_set() and not done.is_set():
        came = _uninterrupted(done.wait)
        if came:
            interrupt = came
            stop()
    if interrupt:
        raise interrupt
    return results[0]


def _uninterrupted(wait: Callable[[], object]) -> KeyboardInterrupt | None:
    """Call `wait`; give an interrupt back instead of raising it."""
    try:
        wait()
    except KeyboardInterrupt as interrupt:
        return interrupt
    return None
