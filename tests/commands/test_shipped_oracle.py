"""The shipped model, converted by us: llama.cpp and we read the same in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle, needs_oracle
from random_llama import nmse
from steps import step
from test_kernels import cpu_flags

from ggufpy import convert_checkpoint
from ggufpy.evaluate.perplexity import perplexity, text_chunks
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import load_tokenizer

TEXTS = [
    "What is a river?",
    "Hello, how are you?\n\n1234 cafés — naïve 日本語 🎉 it's   3,14",
    "<|im_start|>user\nTell me about London.<|im_end|>\n<|im_start|>assistant\n",
    "The history of  the   world\t\tbegan",
]
TYPES = ["f16", "q8_0", "q4_0"]

__all__ = ["cpu_flags"]  # a fixture


@pytest.fixture(scope="module")
def converted(shipped_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("converted")
    return {t: convert_checkpoint(shipped_checkpoint, folder / f"{t}.gguf", outtype=t)[0] for t in TYPES}


def load(path: Path, precision: str) -> Engine:
    return Engine.load(GGUFFile.open(path), precision=precision, n_threads=2)


@needs_oracle
@pytest.mark.parametrize("type", TYPES)
def test_token_ids_equal_llama_cpp(converted: dict[str, Path], type: str) -> None:
    tokenizer = load_tokenizer(GGUFFile.open(converted[type]).metadata)
    with Oracle(converted[type], vocab_only=True) as oracle:
        for text in TEXTS:
            for special in (False, True):
                ids = tokenizer.encode(text, parse_special=special)
                assert ids == oracle.tokenize(text, parse_special=special)
        eog = {token for token in range(oracle.n_vocab) if oracle.is_eog(token)}
    assert tokenizer.eog_ids == eog


@needs_oracle
@pytest.mark.parametrize("text", TEXTS)
def test_greedy_text_equals_llama_cpp(converted: dict[str, Path], text: str) -> None:
    engine = load(converted["f16"], "exact")
    prompt = load_tokenizer(GGUFFile.open(converted["f16"]).metadata).encode(text, parse_special=True)
    with Oracle(converted["f16"], kv_f32=True) as oracle:
        want = oracle.greedy(prompt, 64)
    sequence = engine.new_sequence()
    rows = step(engine, sequence, prompt)
    for token in want:
        assert rows[-1].argmax() == token
        rows = step(engine, sequence, [token], generating=True)


@needs_oracle
@pytest.mark.parametrize("type, limit", [("f16", 1e-6), ("q8_0", 1e-3), ("q4_0", 1e-3)])
def test_logits_are_near_llama_cpp(converted: dict[str, Path], type: str, limit: float) -> None:
    """llama.cpp rounds activations to f16 or int8 there, we do not."""
    tokens = [int(t) for t in np.random.default_rng(3).integers(3, 4096, 200)]
    with Oracle(converted[type], kv_f32=True) as oracle:
        want = oracle.logits(tokens)
    engine = load(converted[type], "exact")
    assert nmse(step(engine, engine.new_sequence(), tokens, logits="all"), want) < limit


@needs_oracle
@pytest.mark.parametrize("type", TYPES)
def test_fast_logits_are_near_llama_cpp_at_every_level(
    converted: dict[str, Path], type: str, cpu_flags: int
) -> None:
    tokens = [int(t) for t in np.random.default_rng(3).integers(3, 4096, 200)]
    with Oracle(converted[type], kv_f32=True) as oracle:
        want = oracle.logits(tokens)
    engine = load(converted[type], "fast")
    for generating in (False, True):
        sequence = engine.new_sequence()
        rows = step(engine, sequence, tokens, generating=generating, logits="all")
        assert nmse(rows, want) < 2e-4
        sequence.close()


def test_perplexity(shared: Path, converted: dict[str, Path]) -> None:
    """llama-perplexity's own figure (README in conformance/eval); tests/evaluate has other types."""
    text = (shared / "eval/wiki.test.raw").read_bytes()[:200_000].decode("utf-8", "replace")
    chunks = text_chunks(load_tokenizer(GGUFFile.open(converted["f16"]).metadata), text, 512)
    assert perplexity(load(converted["f16"], "fast"), chunks).value == pytest.approx(71.9894, rel=1e-3)
