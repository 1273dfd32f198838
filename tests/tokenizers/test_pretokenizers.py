"""Names of pre-tokenizers: flags and cuts of llama.cpp, but where it only comes near the checkpoints."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from odd_texts import any_texts, random_texts
from oracle import Oracle, needs_oracle

from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.bpe import BYTES
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS

KEY = "tokenizer.ggml."

# Checkpoints cut by categories of letters, by single digits and by what Oniguruma takes for \d and \s.
NEAR = {
    *("deepseek-llm", "deepseek-coder", "tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"),
    *("tiny_aya", "cohere2moe", "youtu", "superbpe", "afmoe", "kimi-k2"),
    "granite-embed-multi-97m",
}
RARE = ("x\u200cy", "x\u200dy", "I'mx it's", "a1\u0663")
REPRESENTATIVES = {program: name for name, program in PRE_TOKENIZERS.items() if name not in NEAR}


def opened(folder: Path, metadata: dict[str, Any]) -> Oracle:
    path = folder / "m.gguf"
    write_gguf(path, {"general.architecture": "llama", **metadata}, [])
    return Oracle(path, vocab_only=True)


def vocabulary(extra: list[str], merges: list[str]) -> dict[str, Any]:
    tokens = [*BYTES, *extra]
    ids = {"bos_token_id": 254, "eos_token_id": 255}
    keys = {"model": "gpt2", "tokens": tokens, "token_type": [1] * len(tokens), "merges": merges, **ids}
    return {KEY + name: value for name, value in keys.items()}


@needs_oracle
def test_names_and_flags(tmp_path: Path) -> None:
    for name, program in PRE_TOKENIZERS.items():
        metadata = vocabulary(["abc", "bc"], ["b c"]) | {KEY + "pre": name}
        with opened(tmp_path, metadata) as oracle:
            ids = oracle.tokenize("abc")
        assert ids == load_tokenizer(metadata).encode("abc"), name
        assert (254 in ids, 256 in ids) == (program.add_bos, program.ignore_merges), name


@pytest.fixture(scope="module")
def pairs() -> list[list[str]]:
    """Merges of any two neighbours in many texts, in any order: a cut keeps some from being merged."""
    letters, texts = (
        list(BYTES),
        [text.encode() for text in [*RARE, *random_texts(6, 500), *any_texts(6, 50)]],
    )
    found = sorted({(letters[text[i]], letters[text[i + 1]]) for text in texts for i in range(len(text) - 1)})
    merges = [f"{left} {right}" for left, right in found]
    return [random.Random(seed).sample(merges, len(merges)) for seed in range(3)]


@needs_oracle
@pytest.mark.parametrize("pre", REPRESENTATIVES.values())
def test_cuts(tmp_path: Path, pairs: list[list[str]], pre: str) -> None:
    for seed, merges in enumerate(pairs):
        metadata = vocabulary([merge.replace(" ", "") for merge in merges], merges) | {KEY + "pre": pre}
        tokenizer = load_tokenizer(metadata)
        with opened(tmp_path, metadata) as oracle:
            for text in [*RARE, *random_texts(seed, 50), *any_texts(seed, 20)]:
                assert tokenizer.encode(text) == oracle.tokenize(text), repr(text)
