"""Commands end with a line and a status, whatever happens to them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from ggufpy.commands.console import run_command
from ggufpy.errors import FormatError


def fail(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    "error, status, line",
    [
        (FormatError("x.gguf: is empty"), 1, "error: x.gguf: is empty"),
        (FileNotFoundError(2, "No such file or directory", "y"), 1, "No such file or directory: 'y'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("token 300 is not in the vocabulary"), 1, "error: token 300 is not in the vocabulary"),
        (MemoryError(), 1, "error: not enough memory; try a smaller context"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "not enough memory: Unable to allocate 9 TiB; try"),
    ],
)
def test_errors_become_a_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(fail(error)) == status
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.count("\n") == 1


def test_kill_cleans_up_as_ctrl_c_does() -> None:
    code = (
        "import os, signal, time\n"
        "from ggufpy.commands.console import run_command\n"
        "def command():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(10)\n"
        "raise SystemExit(run_command(command))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
