"""Texts longer than a chunk of attention, 512 places, against the reference."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from engines import Logits, append, load, nmse, prompt_logits, step
from numpy.typing import NDArray

from ggufpy.gguf.values import Value
from ggufpy.runtime.engine import Span
from models import Model

N = 1300
TEXT = [int(t) for t in np.random.default_rng(8).integers(0, tiny_models.VOCAB, N)]

# Windows within a chunk, over the border of two, and over a whole one: where they begin, some rows of a tile
# see a chunk of which their neighbours see nothing.
OURS: Mapping[str, tuple[str, dict[str, Value]]] = {
    "llama": ("llama", {}),
    "window of 8": ("gemma3", {}),
    "window of 100": ("gpt-oss", {"attention.sliding_window": 100}),
    "window of 600": ("gemma3", {"attention.sliding_window": 600}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("long")


@cache
def model_of(folder: Path, name: str) -> Model:
    architecture, changed = OURS[name]
    return Model(tiny_models.write(folder / f"{name}.gguf", architecture, changed))


@cache
def reference(folder: Path, name: str) -> NDArray[np.float64]:
    return model_of(folder, name).reference(TEXT)


def check(got: Logits, want: NDArray[np.float64]) -> None:
    """All rows, and the last alone, are as exact as those of short texts."""
    assert nmse(got, want) < 1e-9
    assert nmse(got[-20:], want[-20:]) < 1e-9


# One thread computes the chunks of many rows together, many threads those of a few rows apart.
@pytest.mark.parametrize("n_batch, n_threads", [(512, 1), (N, 2), (16, 4), (130, 4)])
@pytest.mark.parametrize("name", OURS)
def test_prompts(folder: Path, name: str, n_batch: int, n_threads: int) -> None:
    engine = load(model_of(folder, name).path, n_ctx=N, n_batch=n_batch, n_threads=n_threads)
    check(prompt_logits(engine, TEXT), reference(folder, name))


@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("name", OURS)
def test_generated_tokens(folder: Path, name: str, n_threads: int) -> None:
    want = reference(folder, name)
    engine = load(model_of(folder, name).path, n_ctx=N, n_threads=n_threads, n_seq=4)
    alone = engine.new_sequence()
    append(engine, alone, TEXT[: N - 20], logits="none")
    others = [alone.fork() for _ in range(3)]
    got = [append(engine, alone, [token], generating=True) for token in TEXT[-20:]]
    check(np.concatenate(got), want[-20:])
    beside = []
    for token in TEXT[-20:]:
        beside.append(step(engine, [Span(other, [token], generating=True) for other in others])[1])
    np.testing.assert_array_equal(np.concatenate(beside), np.concatenate(got))
