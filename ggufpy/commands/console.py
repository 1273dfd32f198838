"""What all commands share: errors in one line, results on stdout, everything else on stderr."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TextIO

from ggufpy.errors import GgufpyError

# C0 and DEL as their symbols (U+2400 ...), except line ends and tabs; C1 as U+FFFD.
_SYMBOLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_SYMBOLS |= {0x7F: "\u2421", ord("\r"): ""} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")


def run_command(command: Callable[[], int]) -> int:
    """Run `command` and return its exit status; other errors become a line, and status 1."""
    try:
        # `kill` shall clean up as Ctrl-C does: temporary files go, old files stay.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing left to say, and nothing to flush at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 1
    except (GgufpyError, OSError, ValueError) as error:
        print(visible(f"error: {error}", sys.stderr), file=sys.stderr)
        return 1
    except MemoryError as error:
        what = f"not enough memory: {error}" if str(error) else "not enough memory"
        print(f"error: {what}; try a smaller context", file=sys.stderr)
        return 1


def visible(text: str, stream: TextIO) -> str:
    """Text from a model or a file, which on a terminal must not move the cursor, or do worse."""
    return text.translate(_SYMBOLS) if stream.isatty() else text
