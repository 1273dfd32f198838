"""Byte-pair encoding in csrc/text/bpe.c: the ids of `tokenizers`, from random vocabularies and merges."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tiny_tokenizers import bpe_metadata
from tokenizers import models

from ggufpy.errors import TokenizerError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.strings import Strings
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.bpe import Merges
from ggufpy.tokenizers.tokens import Tokens

MERGES = "tokenizer.ggml.merges"


class PanicException(BaseException):
    """As of Rust, whose own class cannot be imported."""


class Panics:
    """Cuts no text."""

    def __init__(self, message: str, error: type[BaseException] = PanicException) -> None:
        self.error = error(message)

    def pre_tokenize_str(self, text: str) -> None:
        raise self.error


def random_vocabulary(draw: random.Random) -> tuple[list[str], list[str]]:
    """Tokens over five letters of one, two and three bytes, merges in no order; some are there twice."""
    tokens = dict.fromkeys("ab\u0120\u4f60")
    merges = []
    for _ in range(draw.randrange(60)):
        left, right = draw.choice(list(tokens)), draw.choice(list(tokens))
        tokens[left + right] = None
        merges.append(f"{left} {right}")
    draw.shuffle(merges)
    merges += merges[:3]
    texts = list(tokens)
    draw.shuffle(texts)
    return texts, merges


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_ids_equal_those_of_tokenizers(ignore_merges: bool) -> None:
    draw = random.Random(7)
    for _ in range(300):
        texts, merges = random_vocabulary(draw)
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
        vocabulary = {text: id for id, text in enumerate(texts)}
        model = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=ignore_merges))
        ours = Merges({MERGES: merges}, Tokens(Strings.of(texts)), ignore_merges)
        # "c" is no token: it is left out.
        words = ["".join(draw.choices("abc\u0120\u4f60", k=draw.randrange(1, 30))) for _ in range(20)]
        wanted = [model.encode(word).ids for word in words]
        assert [ours.encode([word]) for word in words] == wanted
        assert ours.encode(words) == [id for ids in wanted for id in ids]


def test_words_of_any_length() -> None:
    tokens = ["a", *("a" * 2**n for n in range(1, 11))]
    merges = [f"{token} {token}" for token in tokens[:-1]]
    ours = Merges({MERGES: merges}, Tokens(Strings.of(tokens)), False)
    assert ours.encode([]) == ours.encode([""]) == ours.encode(["b"]) == []
    assert ours.encode(["a" * 1_000_003]) == [10] * 976 + [9, 6, 1, 0]


def test_a_vocabulary_in_a_file_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = bpe_metadata(tmp_path)
    write_gguf(tmp_path / "vocabulary.gguf", metadata, [])
    decoded: list[int] = []
    text_of = Strings._text

    def spy(strings: Strings, *ends: int) -> Any:
        decoded.append(ends[0])
        return text_of(strings, *ends)

    monkeypatch.setattr(Strings, "_text", spy)
    with GGUFFile.open(tmp_path / "vocabulary.gguf") as file:
        tokenizer = load_tokenizer(file.metadata)
    assert len(decoded) < 20
    text = "The lazy dog doesn't mind"
    assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


def test_a_panic_becomes_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(bpe_metadata(tmp_path))
    monkeypatch.setattr(tokenizer, "_cutter", Panics("retry-limit-in-match over"))
    with pytest.raises(
        TokenizerError, match=r"text of 2 characters .* \(retry-limit-in-match over\); divide it"
    ):
        tokenizer.encode("ab")
    monkeypatch.setattr(tokenizer, "_cutter", Panics("", KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("ab")
