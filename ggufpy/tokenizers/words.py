"""Words on their way to C, and the ids that come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ggufpy._kernels import ffi
from ggufpy.background import wait_for
from ggufpy.errors import TokenizerError

_LONG = 1 << 18  # bytes: from here on a signal is answered while they are encoded
_NO_UTF8 = b"\xff"


@dataclass(frozen=True, slots=True)
class Words:
    """UTF-8, with a byte between words that is in none of them."""

    data: bytes
    separator: int

    @classmethod
    def of(cls, words: Iterable[str]) -> Words:
        """Any words, which are valid Unicode."""
        return cls(_NO_UTF8.join([word.encode() for word in words]), _NO_UTF8[0])


def encode_words(words: Words, encode: Callable[[Any, int, Any, Any], int]) -> list[int]:
    """The ids that `encode` writes.

    encode: is given the words, their bytes n, room for n ids, and where it reads that it shall end; returns
    how many there are. It may run on another thread, and holds on to all memory that it needs.
    """
    n = len(words.data)
    if n >= 1 << 31:
        raise TokenizerError(f"a text of {n} bytes is too long to be cut into tokens; divide it")
    out = np.empty(n, np.int32)
    abort, count = ffi.new("int32_t *"), [0]

    def run() -> None:
        count[0] = encode(words.data, n, ffi.from_buffer("int32_t[]", out), abort)

    try:
        if n < _LONG:
            run()
        else:
            wait_for(run)
    finally:
        abort[0] = 1
    ids: list[int] = out[: count[0]].tolist()
    return ids
