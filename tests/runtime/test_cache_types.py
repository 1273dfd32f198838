"""KV caches of all types: what is stored, what it costs, and the same text however the work is divided."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_llama
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from numpy.typing import NDArray
from random_llama import HEADS, KV_HEADS, TOKENS, WIDTH, nmse
from steps import step
from test_kernels import cpu_flags

from ggufpy._kernels import ffi
from ggufpy.commands import perplexity, run
from ggufpy.commands.shipped import shipped_model
from ggufpy.errors import GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.runtime.engine import Engine, Span
from ggufpy.runtime.state.pages import CACHE_TYPES, LayerShape, Pages

__all__ = ["cpu_flags"]

NAMES = [type.label for type in CACHE_TYPES]
HEAD = WIDTH // HEADS
LONG = [int(t) for t in np.random.default_rng(1).integers(0, random_llama.VOCAB, 2200)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_llama.write(tmp_path_factory.mktemp("model") / "model.gguf", random_llama.arrays())


def load(path: Path, type: str | None = None, **options: Any) -> Engine:
    return Engine.load(GGUFFile.open(path), **{"n_threads": 2, "type_k": type, "type_v": type, **options})


def logits(engine: Engine, tokens: list[int], generated: int = 0) -> NDArray[np.float32]:
    """Of all tokens, the last `generated` of which are evaluated one by one."""
    sequence = engine.new_sequence()
    prompt = len(tokens) - generated
    rows = [step(engine, sequence, tokens[:prompt], logits="all")]
    rows += [step(engine, sequence, [token], generating=True) for token in tokens[prompt:]]
    sequence.close()
    return np.concatenate(rows)


# ---- What is stored ----


def pages(engine: Engine) -> list[NDArray[np.uint8]]:
    """The first page of K and of V in layer 0, by KV head."""
    record = ffi.new("gg_cache *")
    store = engine._states._stores[0]
    assert isinstance(store, Pages)
    store.describe_layer(record, 0)
    sizes = (record.k, record.k_page_bytes), (record.v, record.v_page_bytes)
    buffers = (np.frombuffer(ffi.buffer(pointer, size), np.uint8) for pointer, size in sizes)
    return [buffer.reshape(KV_HEADS, -1) for buffer in buffers]


def rows_of_page(page: NDArray[np.uint8], type: GGMLType, transposed: bool) -> NDArray[np.uint8]:
    """(KV heads, positions, bytes of a row) as GGUF has them."""
    if type.block_size == 1:
        shape = (KV_HEADS, 1, HEAD, 32) if transposed else (KV_HEADS, HEAD // 32, 32, 32)
        values = page.reshape(*shape, type.block_bytes)
        panels = values.swapaxes(2, 3) if transposed else values  # (heads, panels, positions, values, bytes)
        return panels.swapaxes(1, 2).reshape(KV_HEADS, 32, -1)
    blocks = page.reshape(KV_HEADS, HEAD // 32, 32 * type.block_bytes)
    scales, rest = blocks[..., :64].reshape(KV_HEADS, -1, 32, 2), blocks[..., 64:]
    width = type.block_bytes - 2
    if transposed:
        values = rest.reshape(KV_HEADS, -1, width, 32).swapaxes(2, 3)
    else:
        values = rest.reshape(KV_HEADS, -1, 32, width)
    return np.concatenate([scales, values], axis=3).swapaxes(1, 2).reshape(KV_HEADS, 32, -1)


@pytest.mark.parametrize("name", NAMES)
def test_pages_hold_what_gguf_would(model: Path, name: str, cpu_flags: int) -> None:
    type, stored = GGMLType.named(name), []
    for each in ("f32", name):
        engine = load(model, each, precision="exact")
        sequence = engine.new_sequence()
        step(engine, sequence, TOKENS[:40])
        stored.append([page.copy() for page in pages(engine)])
    for floats, got, transposed in zip(*stored, (True, False), strict=True):
        rows = rows_of_page(floats, GGMLType.F32, transposed).view(np.float32)
        want = quantize(rows, GGMLQuantizationType[name.upper()]).view(np.uint8)
        np.testing.assert_array_equal(rows_of_page(got, type, transposed), want)


# ---- What it costs ----

# NMSE of the logits: of random models, whose attention is as sharp as it gets, and of the shipped model.
BOUNDS = {
    "f32": (1e-11, 1e-11),
    "f16": (3e-6, 1e-7),
    "bf16": (2e-4, 5e-6),
    "q8_0": (1e-3, 5e-5),
    "q4_0": (0.2, 1e-2),
}


@pytest.mark.parametrize("name", NAMES)
def test_types_are_as_exact_as_their_bits(model: Path, name: str) -> None:
    for path, bound in zip((model, shipped_model()), BOUNDS[name], strict=True):
        want = logits(load(path, "f32", precision="exact"), TOKENS)
        assert nmse(logits(load(path, name, precision="exact"), TOKENS, generated=20), want) < bound


@pytest.mark.parametrize("name", NAMES)
def test_types_on_conformance_files(shared: Path, name: str) -> None:
    reference = np.load(shared / "conformance/archs/logits.npz")
    tokens = [int(t) for t in reference["tokens"]]
    engine = load(shared / "conformance/archs/llama.gguf", name, precision="exact")
    assert nmse(logits(engine, tokens), reference["llama"]) < BOUNDS[name][0] + 3e-6


def test_keys_and_values_may_differ(model: Path) -> None:
    want = logits(load(model, "f32"), TOKENS)
    mixed = nmse(logits(load(model, type_k="q8_0", type_v="q4_0"), TOKENS), want)
    assert nmse(logits(load(model, "q8_0"), TOKENS), want) < mixed < BOUNDS["q4_0"][0]
    by_number = logits(load(model, type_k=GGMLType.Q8_0, type_v=2), TOKENS)
    np.testing.assert_array_equal(by_number, logits(load(model, type_k="Q8_0", type_v="q4_0"), TOKENS))


# ---- However the work is divided ----


@pytest.mark.parametrize("name", ["f16", "q8_0"])
def test_long_texts_are_the_same_for_any_number_of_threads(model: Path, name: str) -> None:
    one, *others = (logits(load(model, name, n_threads=n), LONG, generated=60) for n in (1, 2, 3))
    for other in others:
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_long_texts_are_the_same_as_prompt_or_generated(model: Path, n_threads: int) -> None:
    engine = load(model, precision="int8", n_threads=n_threads)
    want = logits(engine, LONG)
    np.testing.assert_array_equal(logits(engine, LONG, generated=70), want)
    narrow = load(model, precision="int8", n_threads=n_threads, n_batch=37)
    np.testing.assert_array_equal(logits(narrow, LONG), want)


def test_neighbours_do_not_change_a_bit(model: Path) -> None:
    engine = load(model, "q8_0", n_seq=4)
    lengths = (300, 700, 1100, 1500)
    sequences = [engine.new_sequence() for _ in lengths]
    alone = []
    for sequence, length in zip(sequences, lengths, strict=True):
        step(engine, sequence, LONG[:length], logits="none")
        alone.append(step(engine, sequence, [5], generating=True))
        sequence.rewind(length)
    result = engine.step([Span(sequence, [5], generating=True) for sequence in sequences])
    for i, want in enumerate(alone):
        np.testing.assert_array_equal(result.rows(i), want)


def test_forks_copy_quantized_pages(model: Path) -> None:
    engine = load(model, "q4_0", n_seq=2)
    want = logits(engine, TOKENS[:50])[-1]
    first = engine.new_sequence()
    step(engine, first, TOKENS[:45], logits="none")
    second = first.fork()
    step(engine, second, [1, 2, 3])  # writes to the page they share
    np.testing.assert_array_equal(step(engine, first, TOKENS[45:50], logits="all")[-1], want)


# ---- What is refused ----


@pytest.mark.parametrize("bad", ["q5_0", "q4_k", "best", "", 3, 99])
def test_unknown_types(model: Path, bad: str | int) -> None:
    with pytest.raises(GgufpyError, match=f"type '{bad}', choose one of f32, f16, bf16, q8_0, q4_0"):
        load(model, type_v=bad)


def test_heads_that_blocks_do_not_divide() -> None:
    shape = LayerShape(2, 80, 48)
    with pytest.raises(GgufpyError, match="q8_0 needs keys of a multiple of 32 values, this model's have 80"):
        Pages([shape], 1, GGMLType.Q8_0, GGMLType.F16)
    with pytest.raises(GgufpyError, match="q4_0 needs values of a multiple of 32 values"):
        Pages([shape], 1, GGMLType.BF16, GGMLType.Q4_0)


def test_values_of_odd_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_llama, "WIDTH", 160)  # heads of 40
    path = random_llama.write(tmp_path / "m.gguf", random_llama.arrays())
    want = logits(load(path, "f32", precision="exact"), TOKENS)
    for name in ("f16", "bf16"):
        assert nmse(logits(load(path, name, precision="exact"), TOKENS), want) < BOUNDS[name][0]


def test_commands_name_the_types(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text"
    text.write_text("A river flows. " * 40)
    small = ["-m", str(shipped_model()), "-f", str(text), "-c", "16"]
    assert run.main(["-m", str(model), "-p", "x", "-ctk", "q9"]) == 1
    assert perplexity.main([*small, "--cache-type-v", "q9"]) == 1
    assert capsys.readouterr().err.count("error: a KV cache cannot have type 'q9'") == 2
    assert perplexity.main([*small, "-ctk", "q8_0", "-ctv", "q8_0"]) == 0
