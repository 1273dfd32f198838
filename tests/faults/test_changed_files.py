"""A model's file that changes while it is open: an error that names it, never a crash or a wrong answer."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import random_llama
from engines import append, load, prompt_logits
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine

TOKENS = random_llama.TOKENS


@pytest.fixture
def path(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(small, tmp_path / "model.gguf"))


@pytest.fixture
def logits(small: Path) -> NDArray[np.float32]:
    return prompt_logits(load(small), TOKENS)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 4096)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file")
    other.replace(path)


@pytest.mark.parametrize("change", [cut, empty, grow, rewrite])
def test_what_is_written_to_is_refused(change: Callable[[Path], None], path: Path) -> None:
    engine = load(path)
    sequence = engine.new_sequence()
    append(engine, sequence, TOKENS[:40])
    time.sleep(0.02)  # clocks of file systems are coarse
    change(path)
    for tokens in (TOKENS[40:], TOKENS[40:41]):
        with pytest.raises(FormatError, match=r"model\.gguf: was changed while it was open"):
            append(engine, sequence, tokens)
    assert sequence.length == 40


@pytest.mark.parametrize("change", [remove, replace])
def test_what_only_lost_its_name_is_used(
    change: Callable[[Path], None], path: Path, logits: NDArray[np.float32]
) -> None:
    engine = load(path)
    change(path)
    np.testing.assert_array_equal(prompt_logits(engine, TOKENS), logits)


@pytest.mark.parametrize("change", [cut, empty, grow, rewrite, remove])
def test_what_was_read_into_memory_stays(
    change: Callable[[Path], None], path: Path, logits: NDArray[np.float32]
) -> None:
    engine = Engine.load(GGUFFile.open(path, use_mmap=False), precision="exact", n_threads=2)
    change(path)
    np.testing.assert_array_equal(prompt_logits(engine, TOKENS), logits)


@pytest.mark.parametrize("seed", range(8))
def test_cut_at_any_moment(seed: int, path: Path, logits: NDArray[np.float32]) -> None:
    rng = np.random.default_rng(seed)
    engine = load(path)
    sequence = engine.new_sequence()
    seconds, size = float(rng.uniform(0, 0.02)), int(rng.integers(0, path.stat().st_size))
    timer = threading.Timer(seconds, lambda: os.truncate(path, size))
    timer.start()
    with pytest.raises(FormatError, match="was changed"):
        while True:  # until it is noticed
            np.testing.assert_array_equal(append(engine, sequence, TOKENS), logits)
            sequence.rewind(0)
    timer.join()


@pytest.mark.parametrize("change", [cut, empty])
def test_metadata_of_a_file_that_was_cut(change: Callable[[Path], None], path: Path) -> None:
    file = GGUFFile.open(path)
    change(path)
    with pytest.raises(FormatError, match=r"model\.gguf: was changed"):
        list(file.metadata["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
        file.check()


def test_a_vocabulary_that_changed_is_refused_without_asserts_too(path: Path) -> None:
    code = """if True:
        import sys
        from ggufpy.gguf.reader import GGUFFile
        path = sys.argv[1]
        file = GGUFFile.open(path)
        data = open(path, "rb").read()
        at = data.index(b"tokenizer.ggml.tokens")
        with open(path, "r+b") as out:
            out.write(data[:at + 100] + bytes([255]) * 400 + data[at + 500:])
        try:
            file.metadata.strings("tokenizer.ggml.tokens")
        except Exception as exc:
            print(type(exc).__name__, exc)
    """
    done = subprocess.run([sys.executable, "-O", "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("FormatError ") and "was changed while it was open" in done.stdout
