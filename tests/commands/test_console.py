"""Commands end with a line and a status, whatever happens to them."""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable

import jinja2
import pytest

from ggufpy.commands.console import run_command
from ggufpy.errors import FormatError


def fail(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def of(module: str, name: str, base: type[BaseException]) -> BaseException:
    """An error of a library's class, which has to be told by its name."""
    error: BaseException = type(name, (base,), {"__module__": module})("x")
    return error


@pytest.mark.parametrize(
    "error, status, line",
    [
        (FormatError("x.gguf: is empty"), 1, "error: x.gguf: is empty"),
        (FileNotFoundError(2, "No such file or directory", "y"), 1, "No such file or directory: 'y'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("token 300 is not in the vocabulary"), 1, "error: token 300 is not in the vocabulary"),
        (MemoryError(), 1, "error: not enough memory; end other programs, or try a smaller context"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "not enough memory: Unable to allocate 9 TiB; end"),
        (
            OSError(12, "Cannot allocate memory"),
            1,
            "not enough memory: [Errno 12] Cannot allocate memory; end",
        ),
        (RecursionError("maximum"), 1, "error: what was read is nested too deeply"),
        (
            ImportError("x.so: failed to map segment"),
            1,
            "x.so: failed to map segment; install ggufpy anew, or",
        ),
        (Exception("data did not\nmatch"), 1, "error: tokenizers failed (Exception: data did not match)"),
        (
            jinja2.UndefinedError("'x' is undefined"),
            1,
            "error: jinja2 failed (UndefinedError: 'x' is undefined)",
        ),
        (
            of("pyo3_runtime", "PanicException", BaseException),
            1,
            "error: pyo3_runtime failed (PanicException: x)",
        ),
        (of("numba.core.errors", "TypingError", Exception), 1, "error: numba failed (TypingError: x)"),
    ],
)
def test_errors_become_a_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(fail(error)) == status
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.count("\n") == 1


@pytest.mark.parametrize("error", [TypeError("x"), ImportError("x", name="ggufpy.x"), SystemExit(3)])
def test_faults_of_ours_are_seen_whole(error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_command(fail(error))


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
