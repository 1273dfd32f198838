"""The paged KV cache: pages of 32 positions, counted references, one page table per sequence.

Sequences that were forked share pages; a page that somebody else holds is copied before it is written to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi
from ggufpy.errors import ContextError

PAGE = 32  # positions; GG_LANES in csrc

# type in gg_cache: NumPy's type
_TYPES: dict[int, type[np.float32] | type[np.float16]] = {0: np.float32, 1: np.float16}
F32, F16 = 0, 1


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps per token: K and V of each KV head."""

    kv_heads: int
    key_length: int
    value_length: int


class KVCache:
    """Pages for all layers of a model; memory is taken by the system as pages are first written."""

    def __init__(self, layers: list[LayerShape], n_pages: int, type: int) -> None:
        self._type = type
        self._layers = layers
        self._free = list(range(n_pages - 1, -1, -1))
        self._references = Counter[int]()
        dtype = _TYPES[type]
        self._pools: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (
                np.zeros((n_pages, s.kv_heads, s.key_length, PAGE), dtype),
                np.zeros((n_pages, s.kv_heads, PAGE, -(-s.value_length // PAGE) * PAGE), dtype),
            )
            for s in layers
        ]
        self._pointers = [
            (ffi.from_buffer("uint8_t[]", k), ffi.from_buffer("uint8_t[]", v)) for k, v in self._pools
        ]

    def describe(self, record: Any, layer: int) -> None:
        """Fill a gg_cache with the pages of `layer`."""
        (k, v), (k_pointer, v_pointer) = self._pools[layer], self._pointers[layer]
        record.k, record.v = k_pointer, v_pointer
        record.k_page_bytes, record.v_page_bytes = k[0].nbytes, v[0].nbytes
        record.n_pages, record.type = len(k), self._type

    def take(self) -> int:
        """A free page; raises ContextError if there is none."""
        if not self._free:
            raise ContextError("the KV cache is full; close a sequence or make the context larger")
        page = self._free.pop()
        self._references[page] = 1
        return page

    def share(self, page: int) -> None:
        """One more sequence holds `page`."""
        self._references[page] += 1

    def release(self, page: int) -> None:
        """One sequence less holds `page`."""
        self._references[page] -= 1
        if self._references[page] == 0:
            self._free.append(page)

    def own(self, page: int) -> int:
        """`page` if nobody else holds it, else a copy of it in its stead."""
        if self._references[page] == 1:
            return page
        copy = self.take()
        for k, v in self._pools:
            k[copy], v[copy] = k[page], v[page]
        self.release(page)
        return copy


class Sequence:
    """The tokens that the cache knows of one text: `length` of them."""

    def __init__(self, cache: KVCache, limit: int) -> None:
        self.length = 0
        self.pages: list[int] = []
        self._cache = cache
        self._limit = limit

    def reserve(self, n: int) -> None:
        """Make room for `n` more tokens, on pages of our own; raises ContextError if there is none."""
        if self.length + n > self._limit:
            raise ContextError(
                f"{self.length + n} tokens do not fit into a context of {self._limit}; "
                "shorten the text or make the context larger"
            )
        if self.length % PAGE and n:
            self.pages[-1] = self._cache.own(self.pages[-1])
        while len(self.pages) * PAGE < self.length + n:
            self.pages.append(self._cache.take())

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate {self.length} tokens to {length}")
        self.length = length
        kept = -(-length // PAGE)
        for page in self.pages[kept:]:
            self._cache.release(page)
        del self.pages[kept:]

    def fork(self) -> Sequence:
        """Another sequence that begins with the same tokens, without copying them."""
        copy = Sequence(self._cache, self._limit)
        copy.length, copy.pages = self.length, list(self.pages)
        for page in copy.pages:
            self._cache.share(page)
        return copy

    def close(self) -> None:
        """Give all pages back."""
        self.truncate(0)
