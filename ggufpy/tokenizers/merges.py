"""Byte-pair encoding of words: the tables that csrc/text/bpe.c works with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import TokenizerError
from ggufpy.gguf.metadata import strings_of
from ggufpy.tokenizers.tokens import Tokens, hash_table
from ggufpy.tokenizers.values import KEY
from ggufpy.tokenizers.words import Words, encode_words

_MERGES = KEY + "merges"


class Merges:
    """What turns words into tokens by merging neighbours.

    `tokenizers` has that too, but takes half a second and 100 MB to build its model from 280,000 merges.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        rank: NDArray[np.int32] | None = None,
        byte: NDArray[np.int32] | None = None,
        byte_level: bool = False,
        whole_first: bool = False,
        unknown: int | None = None,
        fused: bool = False,
    ) -> None:
        """Nothing is merged before `read` has been called, or what `rank` says.

        The arguments are those of gg_merges in csrc/gg_cdef.h; rank: i32[tokens], byte: i32[256].
        """
        self._kept: list[Any] = [tokens, rank, byte]
        self._tokens = tokens
        self._record = ffi.new("gg_merges *")
        r = self._record
        r.tokens = tokens.record
        r.rank = ffi.NULL if rank is None else ffi.from_buffer("int32_t[]", rank)
        r.byte = ffi.NULL if byte is None else ffi.from_buffer("int32_t[]", byte)
        r.is_byte_level, r.whole_first, r.is_fused = byte_level, whole_first, fused
        r.unknown = -1 if unknown is None else unknown

    def read(self, metadata: Mapping[str, Any], key: str = _MERGES) -> None:
        """Take the merges of a file; raises TokenizerError if there are none, or bad ones."""
        texts = strings_of(metadata, key)
        if texts is None:
            raise TokenizerError(f"{key}: missing or not a list of strings; convert the model again")
        merge = np.empty(3 * len(texts), np.int32)
        slots, self._record.slot_bits = hash_table(len(texts), np.uint32)
        self._kept += [merge, slots]
        self._record.merge = ffi.cast("gg_merge *", ffi.from_buffer(merge))
        self._record.slots = ffi.from_buffer("uint32_t[]", slots)
        joined = np.empty(int(np.diff(texts.start).max(initial=0)), np.uint8)
        record = ffi.new("gg_strings *", texts.record())
        bad = lib.gg_index_merges(self._record, record, ffi.from_buffer("uint8_t[]", joined))
        if bad < len(texts):
            problem = _problem(bad, texts[bad], self._tokens)
            raise TokenizerError(f"{key}: {problem}; convert the model again")

    def encode(self, words: Words) -> list[int]:
        """The tokens of words."""

        def encode(data: bytes, n: int, out: Any, abort: Any) -> int:
            symbols, heap = np.empty(4 * n, np.int32), np.empty(2 * n, np.uint64)
            return lib.gg_encode_words(
                self._record,
                data,
                n,
                words.separator,
                out,
                ffi.cast("gg_symbol *", ffi.from_buffer(symbols)),
                ffi.from_buffer("uint64_t[]", heap),
                abort,
            )

        return encode_words(words, encode)


def _problem(number: int, merge: str, tokens: Tokens) -> str:
    """What is wrong with a bad merge."""
    left, _, right = merge.partition(" ")
    if not (left and right):
        return f"merge {number}, {merge!r:.60}, is not two parts with a space between them"
    missing = next(text for text in (left, right, left + right) if tokens.find(text) is None)
    return f"merge {number}, {merge!r:.60}, needs {missing!r:.60}, which is not a token"
