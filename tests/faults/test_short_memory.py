"""Where memory is short, the libraries underneath neither spin nor end the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENCODE = """if True:
    import resource
    import numpy as np
    from ggufpy.errors import GgufpyError
    from ggufpy.gguf.types import GGMLType
    from ggufpy.quants import encode
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (80 << 20), resource.RLIM_INFINITY))
    try:
        encode(np.ones((1, 32), np.float32), GGMLType.Q8_0)
    except GgufpyError as error:
        print(error)
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, capture_output=True, text=True
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits of address space")
def test_compiling(tmp_path: Path) -> None:
    done = run("-c", ENCODE, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.startswith("the encoders need 96 MiB of free memory to be compiled; raise `ulimit"), (
        done
    )


def test_commands_do_not_import_scipy(tmp_path: Path) -> None:
    (tmp_path / "scipy.py").write_text("raise AssertionError('its BLAS might spin')")
    done = run("-m", "ggufpy.quantize", "--help", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
