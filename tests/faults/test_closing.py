"""What is closed is gone when close() returns; what cannot be copied says so."""

import copy
import gc
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import load

from ggufpy import Llama, convert_checkpoint
from ggufpy.errors import GgufpyError
from ggufpy.gguf.reader import GGUFFile


@pytest.fixture
def path(shipped_checkpoint: Path, tmp_path: Path) -> Path:
    return convert_checkpoint(shipped_checkpoint, tmp_path / "closed.gguf", outtype="q8_0")[0]


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def uses_of(path: Path) -> int:
    """Mappings and descriptors of a file that this process has."""
    maps = sum(line.endswith(f"/{path.name}") for line in Path("/proc/self/maps").read_text().splitlines())
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue  # that of this list
    return maps + sum(name.endswith(f"/{path.name}") for name in names)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_the_file_is_let_go(path: Path, no_collection: None) -> None:
    model = Llama(path, n_ctx=128)
    model.create_completion("Hello", max_tokens=3)
    model.create_chat_completion([{"role": "user", "content": "Hello"}], max_tokens=3)
    stream = model.create_completion("Hello there", max_tokens=9, stream=True)
    next(iter(stream))
    generator = model.generate([1, 2, 3])
    next(generator)
    assert uses_of(path) > 0
    model.close()
    assert uses_of(path) == 0
    with pytest.raises(GgufpyError, match="closed"):
        list(stream)
    with pytest.raises(GgufpyError, match="closed"):
        next(generator)
    with pytest.raises(GgufpyError, match="closed"):
        model.create_completion("Hello")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_a_file_is_let_go_with_its_last_view(path: Path, no_collection: None) -> None:
    with GGUFFile.open(path) as file:
        tensor = file.tensors["token_embd.weight"]
        data = tensor.data
        want = data[:100].tobytes()
    assert data[:100].tobytes() == want
    del data
    assert uses_of(path) == 0
    with pytest.raises(ValueError, match="closed"):
        _ = tensor.data


def test_what_can_be_copied(path: Path) -> None:
    model = Llama(path, n_ctx=128)
    want: Any = model.create_completion("Hello", max_tokens=5, temperature=0.0)
    for other in (pickle.loads(pickle.dumps(model)), copy.copy(model)):
        assert other.n_ctx() == 128
        got: Any = other.create_completion("Hello", max_tokens=5, temperature=0.0)
        assert got["choices"] == want["choices"]
    engine = load(path)
    for fixed in (GGUFFile.open(path), engine, engine.new_sequence()):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copy.copy(fixed)
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            pickle.dumps(fixed)
