"""The tokens of a vocabulary by id and by text, laid out as in the file."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import TokenizerError
from ggufpy.gguf.strings import Strings


class Tokens(Sequence[str]):
    """Texts by id, and with `find` ids by text. An empty text reads ``[EMPTY_<id>]``, as in llama.cpp.

    Raises TokenizerError if two tokens have one text.
    """

    def __init__(self, texts: Strings) -> None:
        self._texts = texts = texts.copy()
        self._slots, bits = hash_table(len(texts), np.uint64)
        slots = ffi.from_buffer("uint64_t[]", self._slots)
        key = 1 + secrets.randbelow((1 << 61) - 2)
        longest = int(self.lengths.max(initial=0))
        self.record = ffi.new("gg_tokens *", (texts.record(), longest, slots, bits, key))
        second = lib.gg_index_tokens(self.record)
        if second < len(texts):
            text = texts[second]
            problem = f"{text!r:.60} is both {self.find(text)} and {second}"
            raise TokenizerError(f"tokenizer.ggml.tokens: {problem}; convert again")

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The bytes of each text, i64[tokens]."""
        return np.diff(self._texts.start).astype(np.int64) - 8

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[id] for id in range(len(self))[index]]
        return self._texts[index] or f"[EMPTY_{index}]"

    def __iter__(self) -> Iterator[str]:
        return (text or f"[EMPTY_{id}]" for id, text in enumerate(self._texts))

    def find(self, text: str) -> int | None:
        """The token with this text, if there is one."""
        data = text.encode("utf-8", "surrogateescape")
        id = lib.gg_find_token(self.record, data, len(data))
        return id if id >= 0 else None


def hash_table(count: int, dtype: type[np.generic]) -> tuple[Any, int]:
    """Empty slots for `count` entries, and the binary logarithm of their number: 3/8 to 3/4 get filled."""
    bits = (count * 4 // 3 + 1).bit_length()
    return np.zeros(1 << bits, dtype), bits
