"""Commands end with a line and a status, whatever happens to them."""

import os
import signal
import subprocess
import sys
import warnings
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


@pytest.mark.filterwarnings("default")
def test_warnings_become_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        warnings.warn("an odd\nfile", stacklevel=1)
        return 0

    assert run_command(command) == 0
    assert capsys.readouterr().err == "warning: an odd file\n"
    with pytest.warns(UserWarning, match="odd"):
        command()


def test_names_leave_with_the_bytes_that_they_came_with() -> None:
    code = "from ggufpy.commands.console import run_command\nrun_command(lambda: print('a\\udcff'))"
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=strict)
    assert (result.stdout, result.stderr) == (b"a\xff\n", b"")


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
