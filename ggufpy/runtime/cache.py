"""The paged KV cache: pages of 32 positions, counted references, one page table per sequence.

Sequences that were forked share pages; a page that somebody else holds is copied before it is written to.
"""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import ContextError, GgufpyError
from ggufpy.gguf.types import GGMLType

PAGE = lib.GG_LANES  # positions

CACHE_TYPES = (GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.Q8_0, GGMLType.Q4_0)


def cache_type(name: str | int | None, default: GGMLType) -> GGMLType:
    """The type that a KV cache shall have, by name or number; raises GgufpyError if it cannot."""
    if name is None:
        return default
    for type in CACHE_TYPES:
        if name == type or (isinstance(name, str) and name.lower() == type.label):
            return type
    known = ", ".join(type.label for type in CACHE_TYPES)
    raise GgufpyError(f"a KV cache cannot have type '{name!s:.40}', choose one of {known}")


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps per token: K and V of each KV head."""

    kv_heads: int
    key_length: int
    value_length: int


class KVCache:
    """Pages for all layers of a model; memory is taken by the system as pages are first written."""

    def __init__(self, layers: list[LayerShape], n_pages: int, type_k: GGMLType, type_v: GGMLType) -> None:
        self._type_k, self._type_v = type_k, type_v
        self._n_pages = n_pages
        self.n_positions = n_pages * PAGE
        self._n_used = 0  # pages that were taken at least once; those beyond have no memory yet
        self._free: list[int] = []
        self._references = Counter[int]()
        try:
            self._pools = [_pools(layer, n_pages, type_k, type_v) for layer in layers]
        except MemoryError:
            raise ContextError(
                f"there is no memory for a KV cache of {n_pages * PAGE} tokens; choose a smaller context"
            ) from None
        self._pointers = [
            (ffi.from_buffer("uint8_t[]", k), ffi.from_buffer("uint8_t[]", v)) for k, v in self._pools
        ]

    @property
    def token_bytes(self) -> int:
        """Bytes of one position in all layers."""
        return sum(int(k[0].nbytes + v[0].nbytes) for k, v in self._pools) // PAGE

    def describe(self, record: Any, layer: int) -> None:
        """Fill a gg_cache with the pages of `layer`."""
        (k, v), (k_pointer, v_pointer) = self._pools[layer], self._pointers[layer]
        record.k, record.v = k_pointer, v_pointer
        record.k_page_bytes, record.v_page_bytes = k[0].nbytes, v[0].nbytes
        record.n_pages = self._n_pages
        record.k_type, record.v_type = self._type_k, self._type_v

    def take(self) -> int:
        """A free page; raises ContextError if there is none."""
        if self._free:
            page = self._free.pop()
        elif self._n_used < self._n_pages:
            page = self._n_used
            self._n_used += 1
        else:
            raise ContextError("the KV cache is full; close a sequence or make the context larger")
        self._references[page] = 1
        return page

    def share(self, page: int) -> None:
        """One more sequence holds `page`."""
        self._references[page] += 1

    def release(self, pages: list[int], kept: int = 0) -> None:
        """One sequence less holds `pages` but for the first `kept`; the others are taken off the list."""
        while len(pages) > kept:
            page = pages.pop()
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
        self._references[page] -= 1
        return copy


class Sequence:
    """The tokens that the cache knows of one text: `length` of them, on `pages`.

    Its pages go back when it is closed or collected.
    """

    def __init__(self, cache: KVCache, limit: int) -> None:
        self.length = 0
        self.pages: list[int] = []
        self.cache = cache
        self._limit = limit
        weakref.finalize(self, cache.release, self.pages).atexit = False

    def reserve(self, n: int) -> None:
        """Make room for `n` more tokens, on pages of our own; raises ContextError if there is none."""
        if self.length + n > self._limit:
            raise ContextError(
                f"{self.length + n} tokens do not fit into a context of {self._limit}; "
                "shorten the text or make the context larger"
            )
        try:
            if self.length % PAGE and n:
                first = self.length // PAGE
                self.pages[first] = self.cache.own(self.pages[first])
            while len(self.pages) * PAGE < self.length + n:
                self.pages.append(self.cache.take())
        except BaseException:
            self.truncate(self.length)
            raise

    def truncate(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate {self.length} tokens to {length}")
        self.length = length
        self.cache.release(self.pages, kept=-(-length // PAGE))

    def fork(self) -> Sequence:
        """Another sequence that begins with the same tokens, without copying them."""
        copy = Sequence(self.cache, self._limit)
        copy.length = self.length
        copy.pages.extend(self.pages)
        for page in copy.pages:
            self.cache.share(page)
        return copy

    def close(self) -> None:
        """Give all pages back."""
        self.truncate(0)


def _pools(
    layer: LayerShape, n_pages: int, type_k: GGMLType, type_v: GGMLType
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """K and V of a layer: (pages, bytes of a page)."""
    for type, length, name in ((type_k, layer.key_length, "key"), (type_v, layer.value_length, "value")):
        if length % type.block_size:
            raise GgufpyError(
                f"a KV cache of type {type.label} needs {name}s of a multiple of {type.block_size} values, "
                f"this model's have {length}; choose f16 or bf16"
            )
    width = -(-layer.value_length // PAGE) * PAGE
    rows = layer.kv_heads * PAGE
    k = np.zeros((n_pages, rows * type_k.row_bytes(layer.key_length)), np.uint8)
    return k, np.zeros((n_pages, rows * type_v.row_bytes(width)), np.uint8)
