"""A pseudo-terminal with a program in it, to be typed at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

# What prompt_toolkit sends when it begins to take a line (bracketed paste on), and what stands for it.
_EDITING = b"\x1b[?2004h"
READY = "[ready]"

_ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07)")


def take_terminal() -> None:
    """In the child: make stdin its controlling terminal, so that Ctrl-C becomes a signal."""
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """Runs a Python program in a pseudo-terminal; a context manager."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 200))
        self._program = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **environment, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(slave)
        self._seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self._program.kill()
        self._program.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ready(self) -> None:
        """Wait until the editor takes a line."""
        self.expect(re.escape(READY))

    def line(self, text: str) -> None:
        """Type a line, and wait until the editor has taken it: it may draw the line before it ends it."""
        self.ready()
        self.type(text + "\r")
        self.expect(re.escape(text) + r"\r*\n")

    def expect(self, pattern: str, seconds: float = 20) -> str:
        """Wait for text that matches; return what was shown up to its end, without escape sequences."""
        end = time.monotonic() + seconds
        while True:
            shown = _ESCAPES.sub(b"", self._seen.replace(_EDITING, READY.encode()))
            text = shown.decode(errors="replace").replace("\r\n", "\n")
            if found := re.search(pattern, text):
                self._seen = text[found.end() :].encode()
                return text[: found.end()]
            if time.monotonic() > end or not self._read(end - time.monotonic()):
                raise AssertionError(f"no {pattern!r} in {text!r}")

    def wait(self, seconds: float = 20) -> int:
        """Exit status of the program."""
        end = time.monotonic() + seconds
        while self._read(max(0.0, end - time.monotonic())):
            pass
        return self._program.wait(max(0.1, end - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the program has closed its side
            return False
        self._seen += data
        return bool(data)


def environment(cache: Path) -> dict[str, str]:
    """Variables for a program under test: its own cache, and this tree's ggufpy."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *sys.path]))
    return {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": path}
