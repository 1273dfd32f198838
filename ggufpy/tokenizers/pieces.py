"""Words put together from whole tokens, the longest or the likeliest, by csrc/text/pieces.c."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.tokens import Tokens
from ggufpy.tokenizers.words import Words, encode_words

_LONGEST = 512  # bytes of a token; each place of a text is compared with so many


class Pieces:
    """What turns words into tokens that are written one behind the other."""

    def __init__(
        self,
        tokens: Tokens,
        score: NDArray[np.float64],
        *,
        unknown: int | None,
        unknown_score: float = 0.0,
        byte: NDArray[np.int32] | None = None,
        floats: bool = False,
        most: int = 0,
    ) -> None:
        """The arguments are those of gg_pieces in csrc/gg_cdef.h; score: f64[tokens], byte: i32[256].

        Raises TokenizerError for tokens that are too long to look for them at each place of a text.
        """
        lengths = tokens.lengths
        usable = np.where(score > -np.inf, lengths, 0)
        if usable.max() > _LONGEST and not most:
            problem = f"token {usable.argmax()} has {usable.max()} bytes, and no model's more than {_LONGEST}"
            raise TokenizerError(f"tokenizer.ggml.tokens: {problem}; convert the model again")
        bits = max(5, (8 * int(lengths.sum())).bit_length())  # so that one of eight or less is set
        beginnings = np.zeros(1 << (bits - 5), np.uint32)
        self._kept: list[Any] = [tokens, score, byte, beginnings]
        self._record = r = ffi.new("gg_pieces *")
        r.tokens, r.bits = tokens.record, bits
        r.beginnings = ffi.from_buffer("uint32_t[]", beginnings)
        r.score = ffi.from_buffer("double[]", score)
        r.byte = ffi.NULL if byte is None else ffi.from_buffer("int32_t[]", byte)
        r.unknown = -1 if unknown is None else unknown
        r.unknown_score, r.is_float, r.most = unknown_score, floats, most
        lib.gg_index_pieces(r)

    def longest(self, words: Words) -> list[int]:
        """The longest token that a word begins with, then the longest behind it, and so on."""

        def encode(data: bytes, n: int, out: Any, abort: Any) -> int:
            return lib.gg_encode_longest(self._record, data, n, words.separator, out, abort)

        return encode_words(words, encode)

    def likeliest(self, words: Words) -> list[int]:
        """The tokens with the highest sum of scores."""

        def encode(data: bytes, n: int, out: Any, abort: Any) -> int:
            memory = np.empty((n + 1) * ffi.sizeof("gg_node"), np.uint8)
            node = ffi.cast("gg_node *", ffi.from_buffer(memory))
            return lib.gg_encode_likeliest(self._record, data, n, words.separator, out, node, abort)

        return encode_words(words, encode)
