"""The engine against llama.cpp, against itself in other company, and at its limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_llama
from numpy.typing import NDArray
from oracle import Oracle, needs_oracle, quantize
from random_llama import TOKENS, nmse
from steps import step
from test_kernels import TYPES, cpu_flags

from ggufpy._kernels import lib
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.writer import write_gguf
from ggufpy.quants import decode
from ggufpy.runtime.engine import Engine, Span

__all__ = ["cpu_flags"]


def load(path: Path, precision: str = "exact", n_threads: int = 2, **options: Any) -> Engine:
    return Engine.load(GGUFFile.open(path), precision=precision, n_threads=n_threads, **options)


def prompt_logits(engine: Engine, tokens: list[int]) -> NDArray[np.float32]:
    sequence = engine.new_sequence()
    rows = step(engine, sequence, tokens, logits="all")
    sequence.close()
    return rows


def generated_logits(engine: Engine, tokens: list[int]) -> NDArray[np.float32]:
    sequence = engine.new_sequence()
    rows = [step(engine, sequence, [token], generating=True)[0] for token in tokens]
    sequence.close()
    return np.array(rows)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return random_llama.write(folder / "model.gguf", random_llama.arrays(biases=True))


# ---- Against llama.cpp ----


@pytest.mark.parametrize("precision, limit", [("exact", 1e-9), ("fast", 2e-4)])
def test_logits_at_every_level(shared: Path, precision: str, limit: float, cpu_flags: int) -> None:
    reference = np.load(shared / "conformance/archs/logits.npz")
    engine = load(shared / "conformance/archs/llama.gguf", precision)
    tokens = [int(t) for t in reference["tokens"]]
    assert nmse(prompt_logits(engine, tokens), reference["llama"]) < limit
    assert nmse(generated_logits(engine, tokens), reference["llama"]) < limit


@needs_oracle
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0},
        {
            "llama__rope__scaling__type": "yarn",
            "llama__rope__scaling__factor": 4.0,
            "llama__rope__scaling__original_context_length": 32,
        },
    ],
    ids=["plain", "linear", "yarn"],
)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_random_model_equals_llama_cpp(
    tmp_path: Path, changed: dict[str, str | int | float], tied: bool
) -> None:
    path = random_llama.write(tmp_path / "m.gguf", random_llama.arrays(biases=True, tied=tied), **changed)
    with Oracle(path, kv_f32=True) as oracle:
        want = oracle.logits(TOKENS)
    engine = load(path)
    assert nmse(prompt_logits(engine, TOKENS), want) < 1e-9
    assert nmse(generated_logits(engine, TOKENS), want) < 1e-9
    assert nmse(prompt_logits(load(path, "fast"), TOKENS), want) < 2e-4


def test_early_tokens_matter(model: Path) -> None:
    """Without this, the comparisons above would say little about attention."""
    engine = load(model)
    changed = [TOKENS[0] + 1, TOKENS[1] + 1, *TOKENS[2:]]
    assert nmse(prompt_logits(engine, changed)[-1], prompt_logits(engine, TOKENS)[-1]) > 1e-3


# ---- Block types ----


def blocks(name: str, shape: tuple[int, ...], type: GGMLType, data: NDArray[np.uint8]) -> TensorSource:
    return TensorSource(name, shape, type, lambda start, stop: data[start:stop])


def write_quantized(folder: Path, type: GGMLType) -> tuple[Path, Path]:
    """A model with all its matrices in one type, and the same with the same weights as floats."""
    sources: list[TensorSource] = []
    floats: dict[str, NDArray[np.float32]] = {}
    rng = np.random.default_rng(0)
    for name, array in random_llama.arrays().items():
        floats[name] = array
        if array.ndim == 1:
            sources.append(random_llama.source(name, array))
            continue
        importance = rng.uniform(0.1, 1, (array.shape[1],)).astype(np.float32)
        packed = quantize(array, type, importance if type.label.startswith("iq") else None)
        data = np.frombuffer(packed, np.uint8).reshape(len(array), -1)
        sources.append(blocks(name, array.shape, type, data))
        floats[name] = decode(data, type)
    write_gguf(folder / "quantized.gguf", random_llama.metadata(), sources)
    return folder / "quantized.gguf", random_llama.write(folder / "floats.gguf", floats)


@needs_oracle
@pytest.mark.parametrize("type", [t for t in TYPES if t.block_size > 1], ids=lambda t: t.label)
def test_block_types(tmp_path: Path, type: GGMLType) -> None:
    quantized, floats = write_quantized(tmp_path, type)
    exact = prompt_logits(load(floats), TOKENS)
    assert nmse(prompt_logits(load(quantized), TOKENS), exact) < 1e-10
    prompt = prompt_logits(load(quantized, "fast"), TOKENS)
    generated = generated_logits(load(quantized, "fast"), TOKENS)
    assert nmse(prompt, exact) < 2e-3
    assert nmse(generated, exact) < 2e-3
    np.testing.assert_array_equal(prompt_logits(load(quantized, "int8"), TOKENS), generated)


@needs_oracle
@pytest.mark.parametrize(
    "type", [GGMLType.IQ4_NL, GGMLType.NVFP4, GGMLType.Q1_0, GGMLType.Q2_0], ids=lambda t: t.label
)
def test_rows_that_super_blocks_do_not_divide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type: GGMLType
) -> None:
    monkeypatch.setattr(random_llama, "WIDTH", 384)
    monkeypatch.setattr(random_llama, "FFN", 640)
    quantized, floats = write_quantized(tmp_path, type)
    exact = prompt_logits(load(floats), TOKENS)
    assert nmse(prompt_logits(load(quantized), TOKENS), exact) < 1e-10
    assert nmse(generated_logits(load(quantized, "fast"), TOKENS), exact) < 2e-3


# ---- The same numbers in any company ----


@pytest.mark.parametrize("precision", ["exact", "fast", "int8"])
def test_threads_do_not_change_a_bit(model: Path, precision: str) -> None:
    one, three = (load(model, precision, n_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(prompt_logits(one, TOKENS), prompt_logits(three, TOKENS))
    np.testing.assert_array_equal(generated_logits(one, TOKENS), generated_logits(three, TOKENS))


def test_batches_do_not_change_a_bit(model: Path) -> None:
    np.testing.assert_array_equal(
        prompt_logits(load(model, n_batch=7), TOKENS), prompt_logits(load(model, n_batch=512), TOKENS)
    )


def test_neighbours_do_not_change_a_bit(model: Path) -> None:
    engine = load(model, "fast", n_seq=3)
    texts = [TOKENS[:40], TOKENS[3:20], TOKENS[50:]]
    alone = [prompt_logits(engine, text) for text in texts]
    sequences = [engine.new_sequence() for _ in texts]
    result = engine.step([Span(s, t, logits="all") for s, t in zip(sequences, texts, strict=True)])
    for i, want in enumerate(alone):
        np.testing.assert_array_equal(result.rows(i), want)

    # One sequence goes on with a prompt while the two others generate.
    together = [Span(sequences[0], [5], True), Span(sequences[1], [6, 7, 8]), Span(sequences[2], [9], True)]
    mixed = engine.step(together)
    for i, (text, span) in enumerate(zip(texts, together, strict=True)):
        sequences[i].rewind(len(text))
        single = step(engine, sequences[i], span.tokens, generating=span.generating)
        np.testing.assert_array_equal(mixed.rows(i), single)


@pytest.mark.parametrize("length", [31, 32, 33, 64])
def test_fork_and_truncate(model: Path, length: int) -> None:
    engine = load(model, n_seq=3)
    want = prompt_logits(engine, TOKENS[: length + 5])[-1]
    first = engine.new_sequence()
    step(engine, first, TOKENS[:length], logits="none")
    second = first.fork()
    step(engine, second, [1, 2, 3])  # writes to the page they share
    np.testing.assert_array_equal(step(engine, first, TOKENS[length : length + 5])[-1], want)
    second.rewind(length)
    np.testing.assert_array_equal(step(engine, second, TOKENS[length : length + 5])[-1], want)


@needs_oracle
@pytest.mark.parametrize("type", ["q4_0", "q4_1", "q5_K", "q6_K", "q8_0", "iq2_xs", "iq4_nl"])
def test_prompts_at_every_level(tmp_path: Path, type: str, cpu_flags: int) -> None:
    quantized, floats = write_quantized(tmp_path, GGMLType.named(type))
    exact = prompt_logits(load(floats), TOKENS)
    assert nmse(prompt_logits(load(quantized, "fast"), TOKENS), exact) < 2e-3
    assert nmse(prompt_logits(load(floats, "fast"), TOKENS), exact) < 1e-3


def test_isa_levels_agree(model: Path, cpu_flags: int) -> None:
    got = prompt_logits(load(model), TOKENS), generated_logits(load(model, "fast"), TOKENS)
    lib.gg_use_cpu_flags(0)
    want = prompt_logits(load(model), TOKENS), generated_logits(load(model, "fast"), TOKENS)
    assert nmse(got[0], want[0]) < 1e-10
    assert nmse(got[1], want[1]) < 1e-5
