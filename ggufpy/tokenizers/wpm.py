"""`tokenizer.ggml.model` "bert": WordPiece, for encoders.

The file writes a piece that begins a word with U+2581 in front, where the vocabulary of a checkpoint writes
the others with "##". Source: BERT (arXiv 1810.04805), llama.cpp llama-vocab.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.cutting import Cutter, Described
from ggufpy.tokenizers.libraries import normalizer
from ggufpy.tokenizers.pieces import Pieces
from ggufpy.tokenizers.special import NORMALIZER_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.types import TokenType
from ggufpy.tokenizers.values import KEY, flag_of, id_of, text_of
from ggufpy.tokenizers.vocabulary import Defaults, read_vocabulary
from ggufpy.tokenizers.words import Words

DEFAULTS = Defaults(bos=101, unknown=100, sep=102, add_bos=True, add_eos=True, ends_with_sep=True)
BEGIN = "\u2581"
_BEGIN = BEGIN.encode()
_NOWHERE = "\uffff".encode()  # no character, and in no token
LONGEST_WORD = 100  # characters; a longer one is unknown, as in BERT's own tokenizer

LOWERCASE_KEY, STRIP_ACCENTS_KEY = KEY + "normalizer.lowercase", KEY + "normalizer.strip_accents"
BERT_NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
BERT_CUTTING = {"type": "BertPreTokenizer"}


class WordPieceTokenizer(Tokenizer):
    """Words, usually in small letters without accents, each cut into the longest pieces that are known."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError."""
        cls = id_of(metadata, "cls", 1 << 31, DEFAULTS.bos)
        vocabulary = read_vocabulary(metadata, replace(DEFAULTS, bos=cls))
        super().__init__(vocabulary, normalizer(_normalizing(metadata), NORMALIZER_KEY))
        described = text_of(metadata, PRE_TOKENIZER_KEY) or json.dumps(BERT_CUTTING)
        self._cutter: Cutter = Described(described)
        if vocabulary.unknown_id is None:
            raise TokenizerError(f"{KEY}unknown_token_id: names no token; convert the model again")
        score = np.where(vocabulary.types == TokenType.NORMAL, 0.0, -np.inf)
        unknown = vocabulary.unknown_id
        self._pieces = Pieces(vocabulary.tokens, score, unknown=unknown, most=len(BEGIN) + LONGEST_WORD)

    def _encode_text(self, text: str, is_first: bool) -> list[int]:
        words = self._cutter.cut(text, is_first)
        if not words.data:
            return []
        end, data = bytes([words.separator]), words.data
        if _BEGIN in data and not self._has_begin_within:
            data = data.replace(_BEGIN, _NOWHERE)
        return self._pieces.longest(Words(_BEGIN + data.replace(end, end + _BEGIN), words.separator))

    @cached_property
    def _has_begin_within(self) -> bool:
        """Whether a piece has U+2581 as a character of a text."""
        return any(BEGIN in text[1:] for text in self._tokens)

    def _text_bytes(self, text: str) -> bytes:
        return text.replace(BEGIN, " ", 1).encode("utf-8", "surrogateescape")


def _normalizing(metadata: Mapping[str, Any]) -> str:
    """The normalizer of the file, or BERT's with what the file says of it."""
    described = text_of(metadata, NORMALIZER_KEY)
    if described is not None:
        return described
    lowercase = flag_of(metadata, LOWERCASE_KEY, True)
    accents = flag_of(metadata, STRIP_ACCENTS_KEY, lowercase)
    return json.dumps({**BERT_NORMALIZER, "lowercase": lowercase, "strip_accents": accents})
