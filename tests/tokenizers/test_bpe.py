"""Byte-pair encoding in csrc/text/bpe.c: the ids of `tokenizers`, from random vocabularies and merges."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray
from tiny_tokenizers import bpe_metadata
from tokenizers import models

from ggufpy.errors import TokenizerError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.strings import Strings
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.bpe import BYTES
from ggufpy.tokenizers.merges import Merges
from ggufpy.tokenizers.tokens import Tokens
from ggufpy.tokenizers.words import Words

MERGES = "tokenizer.ggml.merges"


class PanicException(BaseException):
    """As of Rust, whose own class cannot be imported."""


class Panics:
    """Marks no text."""

    def __init__(self, message: str, error: type[BaseException] = PanicException) -> None:
        self.error = error(message)

    def normalize_str(self, text: str) -> None:
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


def merges_of(texts: list[str], merges: list[str], **options: Any) -> Merges:
    result = Merges(Tokens(Strings.of(texts)), **options)
    result.read({MERGES: merges})
    return result


def bytes_in(texts: list[str]) -> NDArray[np.int32]:
    """The tokens like <0x41> by byte."""
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    return np.array([texts.index(name) if name in texts else -1 for name in names], np.int32)


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_ids_equal_those_of_tokenizers(ignore_merges: bool) -> None:
    draw = random.Random(7)
    for number in range(300):
        texts, merges = random_vocabulary(draw)
        # "c" and "d" are no tokens: they are left out, or bytes, or unknown.
        texts += ["<unk>", "<0x63>", "<0x64>"] if number % 3 else []
        bytes_, unknown, fused = number % 3 == 1, "<unk>" if number % 3 else None, number % 2 == 0
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
        options = {"ignore_merges": ignore_merges, "byte_fallback": bytes_, "fuse_unk": fused}
        vocabulary = {text: id for id, text in enumerate(texts)}
        model = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, unk_token=unknown, **options))
        ours = merges_of(
            texts,
            merges,
            whole_first=ignore_merges,
            byte=bytes_in(texts) if bytes_ else None,
            unknown=texts.index(unknown) if unknown else None,
            fused=fused,
        )
        words = ["".join(draw.choices("abcd\u0120\u4f60", k=draw.randrange(1, 30))) for _ in range(20)]
        wanted = [model.encode(word).ids for word in words]
        assert [ours.encode(Words.of([word])) for word in words] == wanted
        assert ours.encode(Words.of(words)) == [id for ids in wanted for id in ids]


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_bytes_are_merged_as_in_their_alphabet(ignore_merges: bool) -> None:
    letters = list(BYTES)  # in the order of bytes
    merges = [f"{letters[a]} {letters[b]}" for a, b in itertools.pairwise(range(256))]
    texts = letters + [merge.replace(" ", "") for merge in merges] + ["".join(letters[195:200])]
    in_letters = merges_of(texts, merges, whole_first=ignore_merges)
    in_bytes = merges_of(
        texts, merges, whole_first=ignore_merges, byte_level=True, byte=np.arange(256, dtype=np.int32)
    )
    draw = random.Random(3)
    words = ["".join(map(chr, draw.choices(range(1, 0x250), k=draw.randrange(1, 9)))) for _ in range(500)]
    written = ["".join(letters[byte] for byte in word.encode()) for word in words]
    assert in_bytes.encode(Words.of(words)) == in_letters.encode(Words.of(written))


def test_words_of_any_length() -> None:
    tokens = ["a", *("a" * 2**n for n in range(1, 11))]
    merges = [f"{token} {token}" for token in tokens[:-1]]
    ours = merges_of(tokens, merges)
    assert [ours.encode(Words.of(words)) for words in ([], [""], ["b"])] == [[]] * 3
    assert ours.encode(Words.of(["a" * 1_000_003])) == [10] * 976 + [9, 6, 1, 0]


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
    cutter: Any = vars(tokenizer)["_cutter"]
    monkeypatch.setattr(cutter, "_marks", Panics("retry-limit-in-match over"))
    with pytest.raises(
        TokenizerError, match=r"text of 2 characters .* \(retry-limit-in-match over\); divide it"
    ):
        tokenizer.encode("ab")
    monkeypatch.setattr(cutter, "_marks", Panics("", KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("ab")
