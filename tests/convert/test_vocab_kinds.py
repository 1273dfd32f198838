"""Vocabularies of checkpoints: which kinds of tokenizer GGUF can say, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import (
    byte_level_json,
    converted,
    sentencepiece_model,
    spaces_json,
    write_checkpoint,
)

from ggufpy.convert.vocabulary.reading import read_vocabulary
from ggufpy.errors import UnsupportedModelError
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.pretokenizers import GPT2, LLAMA3, PRE_TOKENIZERS, QWEN2

KEY = "tokenizer.ggml."
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6


@pytest.fixture(scope="module")
def byte_level() -> dict[str, Any]:
    return byte_level_json()


@pytest.fixture(scope="module")
def model() -> bytes:
    return sentencepiece_model()


PROGRAMS = {program.regexes: name for name, program in reversed(PRE_TOKENIZERS.items())}


@pytest.mark.parametrize("name", PROGRAMS.values())
def test_each_program_is_recognised(tmp_path: Path, name: str) -> None:
    tokenizer = byte_level_json(PRE_TOKENIZERS[name].regexes)
    tokenizer["model"]["ignore_merges"] = PRE_TOKENIZERS[name].ignore_merges
    assert converted(write_checkpoint(tmp_path, tokenizer))[KEY + "pre"] == name


def split(regex: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def bytes_step(use_regex: bool = False, prefix: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([bytes_step(use_regex=True)], "gpt-2"),
        ([split(GPT2), bytes_step()], "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, bytes_step(use_regex=True)], "smollm"),
        ([split(QWEN2), bytes_step()], "qwen2"),
        ([split(QWEN2, "Removed", invert=True), bytes_step()], "qwen2"),
        (
            [
                split(
                    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
                    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
                ),
                bytes_step(),
            ],
            "qwen2",
        ),
        (
            [
                split(r"\p{N}{1,3}"),
                split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                split(
                    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
                    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                ),
                bytes_step(),
            ],
            "deepseek-v3",
        ),
        ([split(LLAMA3.replace(r"\r", "\r").replace(r"\n", "\n")), bytes_step()], "dbrx"),
        ([{"type": "Sequence", "pretokenizers": [split(LLAMA3)]}, bytes_step()], "dbrx"),
    ],
)
def test_spellings_of_a_program_are_recognised(
    tmp_path: Path, byte_level: dict[str, Any], steps: list[dict[str, Any]], name: str
) -> None:
    tokenizer = {**byte_level, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}
    assert converted(write_checkpoint(tmp_path, tokenizer))[KEY + "pre"] == name


def test_word_pieces_are_refused(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    words = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    with pytest.raises(UnsupportedModelError, match="of kind WordLevel"):
        read_vocabulary(write_checkpoint(tmp_path, {**byte_level, "model": words}), {})
    suffixed = {**byte_level["model"], "end_of_word_suffix": "</w>", "merges": []}
    with pytest.raises(UnsupportedModelError, match="end_of_word_suffix"):
        read_vocabulary(write_checkpoint(tmp_path, {**byte_level, "model": suffixed}), {})


def test_sentencepiece_model(tmp_path: Path, model: bytes) -> None:
    metadata = converted(write_checkpoint(tmp_path, model, NAMES), {"vocab_size": 402})
    assert [metadata[KEY + key] for key in ("model", "pre")] == ["llama", "default"]
    assert metadata[KEY + "tokens"][:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert metadata[KEY + "token_type"][:4] == [UNKNOWN, CONTROL, CONTROL, BYTE]
    assert metadata[KEY + "scores"][259:262] == [0.0, -1.0, -2.0]
    assert metadata[KEY + "scores"][-1] == -10000.0
    assert (metadata[KEY + "bos_token_id"], metadata[KEY + "eos_token_id"]) == (1, 2)
    assert KEY + "add_space_prefix" not in metadata


def test_sentencepiece_model_with_added_tokens(tmp_path: Path, model: bytes) -> None:
    folder = write_checkpoint(
        tmp_path,
        model,
        {"added_tokens_decoder": {"401": {"content": "<tool>", "special": True}}},
        added_tokens='{"<|im_end|>": 400, "<tool>": 401, "  plain": 402, "special": 403}',
        special_tokens_map='{"additional_special_tokens": ["special"]}',
    )
    metadata = converted(folder)
    assert metadata[KEY + "tokens"][400:] == ["<|im_end|>", "<tool>", "  plain", "special"]
    assert metadata[KEY + "token_type"][400:] == [CONTROL, CONTROL, USER_DEFINED, CONTROL]
    assert metadata[KEY + "scores"][400:] == [-1000.0] * 4


def test_space_prefix(tmp_path: Path, model: bytes) -> None:
    without = sentencepiece_model(add_dummy_prefix=False)
    for name, tokenizer, config, wanted in (
        ("with", model, {}, None),
        ("without", without, {}, False),
        ("said so", model, {"add_prefix_space": False}, False),
        ("json with", spaces_json(), {}, None),
        ("json without", spaces_json(prefix=False), {}, False),
    ):
        metadata = converted(write_checkpoint(tmp_path / name, tokenizer, config))
        assert metadata.get(KEY + "add_space_prefix") is wanted


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_that_the_user_defined(tmp_path: Path, prefix: bool) -> None:
    pieces = ["<x>", "\u2581\u2581", "\u2581fox"]
    tokenizer = sentencepiece_model(add_dummy_prefix=prefix, user_defined_symbols=pieces)
    metadata = converted(write_checkpoint(tmp_path, tokenizer))
    assert metadata[KEY + "tokens"][3:6] == ["<x>", "\u2581\u2581", " fox"]
    assert metadata[KEY + "token_type"][3:6] == [USER_DEFINED, 1, USER_DEFINED]


def test_tokenizer_json_counts_before_a_sentencepiece_model(tmp_path: Path, model: bytes) -> None:
    write_checkpoint(tmp_path, spaces_json(vocab_size=100), NAMES)
    alone = converted(tmp_path)
    assert len(alone[KEY + "tokens"]) != 400
    assert converted(write_checkpoint(tmp_path, model, NAMES)) == alone
    (tmp_path / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    assert converted(tmp_path) == alone


def test_a_byte_token_may_be_missing_where_the_character_is_a_token(tmp_path: Path) -> None:
    """Gemma's first vocabulary has the tab in place of <0x09>."""
    tokenizer = spaces_json()
    vocab = tokenizer["model"]["vocab"]
    vocab["\t"] = vocab.pop("<0x09>")
    metadata = converted(write_checkpoint(tmp_path, tokenizer, NAMES))
    assert metadata[KEY + "token_type"].count(BYTE) == 255
    ours = load_tokenizer(metadata)
    text = "\u2603 a\tb \t\n"
    assert ours.decode(ours.encode(text)) == text.encode()
    assert vocab["<0xE2>"] in ours.encode(text)


def test_scores_from_merges_make_the_same_ids(tmp_path: Path) -> None:
    metadata = converted(write_checkpoint(tmp_path, spaces_json(), NAMES))
    tokens = metadata[KEY + "tokens"]
    assert metadata[KEY + "token_type"][:4] == [UNKNOWN, CONTROL, CONTROL, BYTE]
    scores = dict(zip(tokens, metadata[KEY + "scores"], strict=True))
    merges = ["".join(merge) for merge in spaces_json()["model"]["merges"]]
    assert all(scores[token] == -float(merges.index(token)) for token in merges)
    text = "The quick brown fox"
    assert load_tokenizer(metadata).decode(load_tokenizer(metadata).encode(text)) == text.encode()
