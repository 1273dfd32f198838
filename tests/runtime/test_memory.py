"""Programs at guard pages: memory is as large as they need, and they touch nothing behind it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PATHS = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(PATHS)}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest with all memory of programs at guard pages."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "guards", "-p", "no:cacheprovider", *arguments],
        cwd=TESTS.parent,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="memory is protected by mprotect")
@pytest.mark.parametrize(
    "file", ["architectures/test_full_batches.py", "runtime/test_ops.py", "runtime/test_ops_in_context.py"]
)
def test_nothing_behind_a_programs_memory_is_touched(file: str) -> None:
    result = run(str(TESTS / file))
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]


def test_guard_pages_would_end_the_process() -> None:
    within = "import ctypes, guards; memory = guards.guarded(100); memory[:] = 1; print(1, flush=True); "
    behind = "ctypes.memset(memory.ctypes.data + 100, 1, 1); print(2)"
    result = subprocess.run(
        [sys.executable, "-c", within + behind],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert result.returncode < 0 and result.stdout == "1\n"
