r"""`tokenizer.ggml.model` "rwkv": RWKV World, the longest token first.

A token is bytes; the file writes them as Python does, with escapes like `\n` and `\xe6`. Source: llama.cpp
llama-vocab.cpp and its converter, by what they write and read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ggufpy.errors import TokenizerError
from ggufpy.gguf.metadata import strings_of
from ggufpy.tokenizers.cutting import Cutter, Described, Uncut
from ggufpy.tokenizers.libraries import normalizer
from ggufpy.tokenizers.pieces import Pieces
from ggufpy.tokenizers.special import NORMALIZER_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.tokenizer import Tokenizer
from ggufpy.tokenizers.types import TokenType
from ggufpy.tokenizers.values import KEY, text_of
from ggufpy.tokenizers.vocabulary import Defaults, read_vocabulary

_TOKENS = KEY + "tokens"
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[^x]|)", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


class LongestTokenizer(Tokenizer):
    """The longest token that a text begins with, then the longest behind it, and so on."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError."""
        others = {key: metadata[key] for key in metadata if key != _TOKENS}
        vocabulary = read_vocabulary({**others, _TOKENS: _unescaped(metadata)}, Defaults())
        super().__init__(vocabulary, normalizer(text_of(metadata, NORMALIZER_KEY), NORMALIZER_KEY))
        words = text_of(metadata, PRE_TOKENIZER_KEY)
        self._cutter: Cutter = Uncut() if words is None else Described(words)
        score = np.where(vocabulary.types == TokenType.NORMAL, 0.0, -np.inf)
        self._pieces = Pieces(vocabulary.tokens, score, unknown=vocabulary.unknown_id)

    def _encode_text(self, text: str, is_first: bool) -> list[int]:
        return self._pieces.longest(self._cutter.cut(text, is_first))

    def _text_bytes(self, text: str) -> bytes:
        return text.encode("utf-8", "surrogateescape")


def _unescaped(metadata: Mapping[str, Any]) -> list[str]:
    """The tokens as bytes, by "surrogateescape" in Python strings; raises TokenizerError for bad escapes."""
    texts = list(strings_of(metadata, _TOKENS) or ())
    for id, text in enumerate(texts):
        if "\\" in text:
            try:
                data = _ESCAPE.sub(_meaning, text.encode("utf-8", "surrogateescape"))
            except ValueError as exc:
                problem = f"token {id} is {text!r:.60}, with {exc}"
                raise TokenizerError(f"{_TOKENS}: {problem}; convert the model again") from exc
            texts[id] = data.decode("utf-8", "surrogateescape")
    return texts


def _meaning(escape: re.Match[bytes]) -> bytes:
    text: bytes = escape[1]
    if len(text) == 3:
        return bytes([int(text[1:], 16)])
    if not text:
        raise ValueError("an escape that is cut short")
    return _CONTROLS.get(text, text)
