"""What all commands share: errors in one line, results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ggufpy.errors import GgufpyError


def run_command(command: Callable[[], int]) -> int:
    """Run `command` and return its exit status; errors of ours and of the system become one line, status 1."""
    try:
        return command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing left to say, and nothing to flush at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 1
    except (GgufpyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
