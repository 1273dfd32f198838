"""Vocabularies from tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tokenizers

from ggufpy.convert.vocabulary.normalizing import normalizer_key
from ggufpy.convert.vocabulary.pre_tokenizer import pre_tokenizer_keys, writes_bytes
from ggufpy.convert.vocabulary.spaced import read_spaced
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.convert.vocabulary.unigram_json import read_unigram_json
from ggufpy.convert.vocabulary.word_pieces import read_word_pieces
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.tokenizers.libraries import is_panic
from ggufpy.tokenizers.types import TokenType


def read_tokenizer_json(
    files: TokenizerFiles, encoder: tokenizers.Tokenizer, pieces: Mapping[str, float]
) -> VocabularyTable:
    """The vocabulary in tokenizer.json, which `encoder` has been opened from, so it is well-formed.

    pieces: the scores of the tokens of a SentencePiece model beside it.

    Raises UnsupportedModelError if GGUF cannot express what it does.
    """
    if isinstance(encoder.model, tokenizers.models.WordPiece):
        return read_word_pieces(files)
    if isinstance(encoder.model, tokenizers.models.Unigram):
        return read_unigram_json(files, encoder)
    if not isinstance(encoder.model, tokenizers.models.BPE):
        kind = type(encoder.model).__name__
        known = "ggufpy converts BPE, unigram and WordPiece"
        raise UnsupportedModelError(f"{files.path}: a tokenizer of kind {kind}; {known}")
    model = files.tokenizer["model"]
    for option in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise UnsupportedModelError(f"{files.path}: BPE with a {option}, which GGUF cannot express")
    vocab: dict[str, int] = model["vocab"]
    merges = [_merge(item) for item in model["merges"]]
    if _is_byte_level(files.tokenizer):
        return _byte_level(files, vocab, merges)
    return read_spaced(files, encoder, vocab, merges, pieces)


def open_encoder(files: TokenizerFiles) -> tokenizers.Tokenizer:
    """The tokenizer at work, without truncation and padding; raises FormatError."""
    is_file = files.path.name == "tokenizer.json"
    text = files.path.read_bytes() if is_file else json.dumps(files.tokenizer).encode()
    with errors_of_tokenizers(files):
        encoder = tokenizers.Tokenizer.from_buffer(text)
    encoder.no_truncation()
    encoder.no_padding()
    return encoder


@contextmanager
def errors_of_tokenizers(files: TokenizerFiles) -> Iterator[None]:
    """FormatError for whatever the library raises: Exception itself, or its panics, which are none."""
    try:
        yield
    except BaseException as exc:
        if not (isinstance(exc, Exception) or is_panic(exc)):
            raise
        problem = " ".join(str(exc).split())
        raise FormatError(f"{files.path}: not a tokenizer ({problem:.200}); download it again") from exc


def _merge(item: str | Sequence[str]) -> tuple[str, str]:
    """The two parts, which older files write as one string with a space between them."""
    left, right = item.split(" ", 1) if isinstance(item, str) else item
    return left, right


def _is_byte_level(tokenizer: Mapping[str, Any]) -> bool:
    """Whether bytes are written as printable characters, rather than as tokens like <0x0A>."""
    return any(writes_bytes(tokenizer.get(part)) for part in ("normalizer", "pre_tokenizer", "decoder"))


def _byte_level(
    files: TokenizerFiles, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> VocabularyTable:
    pre, keys = pre_tokenizer_keys(files, vocab, merges)
    table = VocabularyTable("gpt2", pre, files.vocab_size(vocab.values()))
    for text, id in vocab.items():
        table.put(id, text, TokenType.NORMAL)
    table.put_added(files.added_tokens())
    table.own_keys = keys | normalizer_key(files.tokenizer)
    table.merges = [f"{_no_space(left)} {_no_space(right)}" for left, right in merges]
    return table


def _no_space(part: str) -> str:
    """A part of a merge without spaces, as llama.cpp writes them."""
    return part.replace(" ", "\u0120")
