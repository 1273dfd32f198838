"""RWKV's vocabularies: llama.cpp's ids, and what no tokenizer can read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from odd_texts import random_texts
from oracle import Oracle, needs_oracle

from ggufpy.errors import TokenizerError
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer

KEY = "tokenizer.ggml."


def written(data: bytes) -> str:
    """As RWKV's vocabulary is written, and llama.cpp's converter writes it again."""
    return repr(data)[2:-1]


def vocabulary(draw: random.Random) -> dict[str, Any]:
    """Each byte, and pieces of odd texts that need not be characters."""
    tokens = dict.fromkeys(bytes([byte]) for byte in range(256))
    text = "".join(random_texts(3, 40)).encode()
    for _ in range(600):
        start = draw.randrange(len(text))
        piece = text[start : start + draw.randrange(2, 9)]
        # llama.cpp ends where a beginning of a token is none itself.
        tokens |= dict.fromkeys(piece[:n] for n in range(1, len(piece) + 1))
    for special in (b"<s>", b"</s>", b"<|im_end|>"):
        tokens.pop(special, None)
    return metadata_of([written(token) for token in tokens])


def metadata_of(tokens: list[str]) -> dict[str, Any]:
    types = [3, *[1] * len(tokens)]
    return {KEY + "model": "rwkv", KEY + "tokens": ["<s>", *tokens], KEY + "token_type": types}


@needs_oracle
def test_ids_are_llama_cpp_s(tmp_path: Path) -> None:
    metadata = vocabulary(random.Random(2))
    write_gguf(tmp_path / "m.gguf", {"general.architecture": "rwkv6", **metadata}, [])
    tokenizer = load_tokenizer(metadata)
    with Oracle(tmp_path / "m.gguf", vocab_only=True) as oracle:
        for number, text in enumerate([*random_texts(5, 200), "<s>", "a<s>b", "'\\x41\\n\"", ""]):
            flags = {"add_special": number % 2 == 0, "parse_special": number % 3 != 0}
            if not flags["parse_special"]:
                text = text.replace("<s>", "")  # which llama.cpp takes for the token, RWKV's own for text
            ids = tokenizer.encode(text, **flags)
            assert ids == oracle.tokenize(text, **flags), repr(text)
            if 0 not in ids:
                assert tokenizer.decode(ids) == text.encode()
        every = range(tokenizer.n_vocab)
        assert [tokenizer.token_bytes(id) for id in every] == [oracle.piece(id) for id in every]


def test_bytes_that_are_no_tokens_are_unknown_or_left_out() -> None:
    metadata = metadata_of(["a", "bc"])
    assert load_tokenizer(metadata).encode("xabbc\u6c34") == [1, 2]
    named = load_tokenizer({**metadata, KEY + "unknown_token_id": 0})
    assert named.encode("xabbc\u6c34") == [0, 1, 0, 2, 0, 0, 0]


def test_a_control_token_in_a_text_needs_parse_special() -> None:
    tokenizer = load_tokenizer(metadata_of(["<", "s", ">"]))
    assert tokenizer.encode("<s>") == [1, 2, 3]
    assert tokenizer.encode("<s>", parse_special=True) == [0]


def test_long_texts() -> None:
    tokenizer = load_tokenizer(metadata_of(["a" * 7, "a", "b" * 500 + "c", "b"]))
    assert tokenizer.encode("a" * 1_000_000) == [1] * 142_857 + [2]
    assert tokenizer.encode("b" * 1_000_000) == [4] * 1_000_000


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "no vocabulary"),
        ([1], "no vocabulary"),
        (["a\\"], "token 0 is 'a.*', with an escape that is cut short"),
        (["a", "\\x4"], "token 1 is .* cut short"),
        (["\\xzz"], "cut short"),
        (["a", "\\x61"], "'a' is both 0 and 1"),
        (["a" * 2000], "token 0 has 2000 bytes, and no model's more than 512"),
    ],
)
def test_damage_is_one_line(tokens: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tokenizer({KEY + "model": "rwkv", KEY + "tokens": tokens})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["none", "no_vocab"])
def test_a_file_without_a_vocabulary(kind: str) -> None:
    with pytest.raises(TokenizerError, match=f"{kind}.*: it has no vocabulary and runs on token ids alone"):
        load_tokenizer({KEY + "model": kind})


@pytest.mark.parametrize("kind", ["plamo2", "plamo3", "hybriddna", "whitespace"])
def test_kinds_that_are_not_here(kind: str) -> None:
    with pytest.raises(TokenizerError, match=f"{kind}.*; ggufpy has tokenizers of kind 'llama', .*'rwkv'"):
        load_tokenizer({KEY + "model": kind, KEY + "tokens": ["a"]})
