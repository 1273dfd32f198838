"""`tokenizer.ggml.model` "bert": WordPiece, for encoders.

The file writes a piece that begins a word with U+2581 in front, where the vocabulary of a checkpoint writes
the others with "##". Source: BERT (arXiv 1810.04805), llama.cpp llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.vocabulary import Defaults, TokenType, Vocabulary, read_vocabulary

DEFAULTS = Defaults(bos=101, eos=102, unknown=100, add_bos=True, add_space_prefix=False)
_BEGIN = "\u2581"
_LONGEST_WORD = 100  # characters; a longer one is unknown, as in BERT's own tokenizer


class WordPieceTokenizer(Tokenizer):
    """Words in small letters without accents, each cut into the longest pieces that are known."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError."""
        ends = {"bos": ("cls", "bos"), "eos": ("seperator", "eos")}
        known = {
            f"tokenizer.ggml.{ours}_token_id": metadata[key]
            for ours, names in ends.items()
            for name in reversed(names)
            if (key := f"tokenizer.ggml.{name}_token_id") in metadata
        }
        vocabulary = read_vocabulary({**metadata, **known}, DEFAULTS)
        super().__init__(vocabulary)
        self.add_eos = True
        self._model = _model(vocabulary)
        self._words = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
        self._cutter = pre_tokenizers.BertPreTokenizer()

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        words = self._cutter.pre_tokenize_str(self._words.normalize_str(text))
        return [token.id for word, _ in words for token in self._model.tokenize(word)]

    def _text_bytes(self, text: str) -> bytes:
        return text.replace(_BEGIN, " ", 1).encode("utf-8", "surrogateescape")


def _model(vocabulary: Vocabulary) -> tokenizers.models.WordPiece:
    """The pieces as BERT writes them."""
    unknown = vocabulary.unknown_id
    if unknown is None:
        raise TokenizerError("tokenizer.ggml.unknown_token_id: names no token; convert the model again")
    pieces: dict[str, int] = {}
    for id, (text, type) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        if type == TokenType.NORMAL:
            text = text[1:] if text.startswith(_BEGIN) else f"##{text}"
        pieces.setdefault(text, id)
    return models.WordPiece(
        pieces, unk_token=vocabulary.tokens[unknown], max_input_chars_per_word=_LONGEST_WORD
    )
