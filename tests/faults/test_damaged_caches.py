"""Caches that are cut or empty are made anew."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ggufpy.commands import shipped
from ggufpy.gguf.reader import GGUFFile

ENCODE = """if True:
    import numpy as np
    from ggufpy.gguf.types import GGMLType
    from ggufpy.quants import encode
    from ggufpy.quants.formats.compiled import on_compile
    on_compile.append(lambda: print("compiling"))
    print(encode(np.ones((1, 32), np.float32), GGMLType.Q8_0).tobytes().hex())
"""


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def encode(cache: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENCODE],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_compiled_encoders(tmp_path: Path) -> None:
    *_, want = encode(tmp_path)
    assert encode(tmp_path) == [want]  # nothing is compiled
    for damage, ending in ((halve, "nbi"), (zero, "nbi"), (empty, "nbc")):
        for path in tmp_path.rglob(f"*.{ending}"):
            damage(path)
        first, *_, last = encode(tmp_path)
        assert (first, last) == ("compiling", want)
        assert encode(tmp_path) == [want]


@pytest.mark.parametrize("damage", [halve, empty, zero])
def test_the_shipped_model(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = shipped.shipped_model()
    damage(path)
    assert shipped.shipped_model() == path
    with GGUFFile.open(path) as file:
        assert np.any(file.tensors["token_embd.weight"].data)
