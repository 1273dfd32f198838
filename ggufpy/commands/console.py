"""What all commands share: errors in one line, results on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import TextIO

from ggufpy.background import NO_THREAD
from ggufpy.errors import GgufpyError

# C0 and DEL as their symbols (U+2400 ...), except line ends and tabs; C1 as U+FFFD.
_SYMBOLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_SYMBOLS |= {0x7F: "\u2421", ord("\r"): ""} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")

_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_GRACE = 5.0  # seconds to clean up in

# Roots of modules: errors of their classes are theirs. A panic of Rust has the last one, and is no Exception;
# `tokenizers` raises Exception itself besides.
_LIBRARIES = {"google", "jinja2", "llvmlite", "numba", "pyo3_runtime"}


class Ended(KeyboardInterrupt):
    """The program shall end, not only what it is doing."""


def start(name: str, argv: list[str] | None = None) -> int:
    """Import the command `name`, run it, and return its exit status."""
    # NumPy's BLAS, which nothing here calls, starts a thread per CPU, each with memory of its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # numba imports SciPy where it is installed, for what nothing here compiles: half a second, and another
    # BLAS, which tries forever to get memory that it is refused.
    sys.modules.setdefault("scipy", None)  # type: ignore[arg-type]

    def command() -> int:
        status: int = import_module(f"ggufpy.commands.{name}").main(argv)
        return status

    return run_command(command)


def run_command(command: Callable[[], int]) -> int:
    """Run `command` and return its exit status; other errors become a line, and status 1, warnings a line."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _say(f"warning: {one_line(str(message))}")
        return _run(command)


def _run(command: Callable[[], int]) -> int:
    try:
        _open_streams()
        _catch_signals()
        status = command()
        sys.stdout.flush()  # at exit, an error would come too late for a line
        return status
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing left to say, and nothing to flush at exit.
        _discard_output()
        return 1
    except BaseException as error:
        line = _line_of(error)
        if line is None:
            raise
        _say(f"error: {one_line(line)}")
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    return 1


def _line_of(error: BaseException) -> str | None:
    """What to say of an error; None for a fault of ours, which has to be seen whole."""
    library = "tokenizers" if type(error) is Exception else type(error).__module__.partition(".")[0]
    match error:
        case MemoryError() | OSError(errno=errno.ENOMEM):
            what = f"not enough memory: {error}" if str(error) else "not enough memory"
            return f"{what}; end other programs, or try a smaller context"
        case GgufpyError() | OSError() | ValueError():
            return str(error)
        case RecursionError():
            return "what was read is nested too deeply"
        case RuntimeError() if NO_THREAD in str(error):
            return "the system gives no thread; end other programs, or raise `ulimit -u` or `ulimit -v`"
        case ImportError() if not (error.name or "").startswith("ggufpy"):
            return f"{error}; install ggufpy anew, or raise `ulimit -v` if there is one"
        case _ if library in {"tokenizers", *_LIBRARIES}:
            return f"{library} failed ({type(error).__name__}: {error}); open an issue with this line"
    return None


def visible(text: str, stream: TextIO) -> str:
    """Text from a model or a file, which on a terminal must not move the cursor, or do worse."""
    return text.translate(_SYMBOLS) if stream.isatty() else text


def printable(text: str) -> str:
    """The text, or quoted with escapes where it is empty or would move the cursor or colour the screen."""
    return text if text.isprintable() and text else repr(text)


def one_line(text: str) -> str:
    """Text that may hold names from files, as one line: a name cannot begin lines of its own."""
    return " ".join(text.splitlines())


def _catch_signals() -> None:
    """`kill` and a closed terminal shall clean up as Ctrl-C does: temporary files go, old files stay."""
    for number in _ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Ended; a second signal, or some seconds, end what does not listen."""
    for ending in (*_ENDINGS, signal.SIGALRM):
        signal.signal(ending, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _GRACE)
    raise Ended


def _open_streams() -> None:
    """Closed standard streams lead nowhere; else the next file that is opened would be one of them.

    Names of files leave stdout with the bytes that they came with, whether those are UTF-8 or not.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free, which is this one
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def _discard_output() -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _say(line: str) -> None:
    try:
        print(visible(line, sys.stderr), file=sys.stderr, flush=True)
    except OSError:  # a terminal that is gone
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
