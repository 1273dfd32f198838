"""Tokenizers from GGUF metadata: llama.cpp's ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from odd_texts import conformance_file, random_texts
from oracle import Oracle, needs_oracle
from tiny_tokenizers import (
    bpe_metadata,
    spm_metadata,
)

from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS

Metadata = dict[str, Any]
KEY = "tokenizer.ggml."

VOCABULARIES = (
    "llama-spm",
    "phi-3",
    "llama-bpe",
    "gpt-2",
    "qwen2",
    "qwen35",
    "deepseek-llm",
    "starcoder",
    "falcon",
    "gemma-4",
)


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Metadata:
    return spm_metadata(tmp_path_factory.mktemp("spm"))


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Metadata:
    return bpe_metadata(tmp_path_factory.mktemp("bpe"))


@pytest.fixture(params=["spm", "bpe"])
def either(request: pytest.FixtureRequest) -> Metadata:
    metadata: Metadata = request.getfixturevalue(request.param)
    return metadata


@pytest.mark.parametrize("name", VOCABULARIES)
def test_ids_equal_llama_cpp_s(shared: Path, name: str) -> None:
    path = conformance_file(shared, name)
    texts = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    wanted = [[int(id) for id in line.split()] for line in Path(f"{path}.out").read_text().split("\n")]
    with GGUFFile.open(path) as file:
        tokenizer = load_tokenizer(file.metadata)
    assert [tokenizer.encode(text, add_special=False) for text in texts] == wanted[: len(texts)]
    assert [tokenizer.decode(ids) for ids in wanted[: len(texts)]] == [text.encode() for text in texts]


def assert_equal(tokenizer: Tokenizer, oracle: Oracle, texts: list[str]) -> None:
    for number, text in enumerate(texts):
        flags = {"add_special": number % 2 == 0, "parse_special": number % 3 == 0}
        assert tokenizer.encode(text, **flags) == oracle.tokenize(text, **flags), text


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_each_program_runs(bpe: Metadata, pre: str) -> None:
    tokenizer = load_tokenizer({**bpe, KEY + "pre": pre})
    for text in random_texts(3, 5):
        assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


@needs_oracle
def test_sentencepiece_equals_llama_cpp_live(tmp_path: Path, spm: Metadata) -> None:
    for prefix in (True, False):
        metadata = {"general.architecture": "llama", **spm, KEY + "add_space_prefix": prefix}
        path = tmp_path / f"{prefix}.gguf"
        write_gguf(path, metadata, [])
        with Oracle(path, vocab_only=True) as oracle:
            assert_equal(load_tokenizer(metadata), oracle, random_texts(4, 100))


def test_decode_is_the_inverse_of_encode(either: Metadata) -> None:
    tokenizer = load_tokenizer(either)
    for text in [*random_texts(5, 50), "", " ", "  a", "\ufffd"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text.encode()
