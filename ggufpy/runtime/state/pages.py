"""Keys and values: pages of 32 positions, counted references, one page table per sequence.

Sequences that were forked share pages; a page that somebody else holds is copied before it is written to.
Layers that look back over a window only give pages back that slid out of it, but for a margin to rewind over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import ContextError, GgufpyError
from ggufpy.gguf.types import GGMLType
from ggufpy.runtime.state.store import Places

PAGE = lib.GG_LANES  # positions
MARGIN = 8 * PAGE  # positions behind a window that are kept

CACHE_TYPES = (GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.Q8_0, GGMLType.Q4_0)

_GONE = -1  # in a page table: given back


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


class Pages:
    """Pages for all layers with one window; memory is taken by the system as pages are first written.

    window: how many positions a row sees, itself among them; None for all.
    """

    def __init__(
        self,
        layers: list[LayerShape],
        n_pages: int,
        type_k: GGMLType,
        type_v: GGMLType,
        window: int | None = None,
    ) -> None:
        self.window = window
        self.places = Places(n_pages, "the KV cache")
        self._layers = layers
        self._types = type_k, type_v
        try:
            self._pools = [_pools(layer, n_pages, type_k, type_v) for layer in layers]
        except (MemoryError, ValueError):  # ValueError: more than NumPy can count
            raise ContextError(
                f"there is no memory for a KV cache of {n_pages * PAGE} tokens; choose a smaller context"
            ) from None
        self._pointers = [
            (ffi.from_buffer("uint8_t[]", k), ffi.from_buffer("uint8_t[]", v)) for k, v in self._pools
        ]

    def open(self) -> PageHold:
        """The hold of an empty sequence."""
        return PageHold(self, [])

    def describe(self, record: Any) -> None:
        """Fill what a gg_state says of the whole store."""
        record.is_pages, record.n_entries, record.window = 1, self.places.count, self.window or 0

    def describe_layer(self, record: Any, layer: int) -> None:
        """Fill a gg_cache with the pages of a layer, counted within this store."""
        (k, v), (k_pointer, v_pointer) = self._pools[layer], self._pointers[layer]
        shape = self._layers[layer]
        record.k, record.v = k_pointer, v_pointer
        record.k_page_bytes, record.v_page_bytes = k[0].nbytes, v[0].nbytes
        record.n_pages = self.places.count
        record.k_type, record.v_type = self._types
        record.heads = shape.kv_heads
        record.key_length, record.value_length = shape.key_length, shape.value_length

    def bytes_read(self, position: int) -> int:
        """Bytes that a row at `position` reads."""
        seen = position + 1 if self.window is None else min(position + 1, self.window)
        return seen * sum(int(k[0].nbytes + v[0].nbytes) for k, v in self._pools) // PAGE

    def own(self, page: int) -> int:
        """`page` if nobody else holds it, else a copy of it in its stead."""
        if not self.places.is_shared(page):
            return page
        copy = self.places.take()
        for k, v in self._pools:
            k[copy], v[copy] = k[page], v[page]
        self.places.release(page)
        return copy


class PageHold:
    """The page table of one sequence."""

    def __init__(self, store: Pages, pages: list[int]) -> None:
        self.store = store
        self.pages = pages

    def reserve(self, start: int, n: int) -> None:
        """Take the pages for n tokens from `start` on, if all are kept; with a window, `begin` does it."""
        if self.store.window is None:
            self._extend(start, n)

    def begin(self, start: int, n: int) -> None:
        """With a window: give back what slid out of it, and take pages for the batch."""
        if self.store.window is not None:
            first = max(start + 1 - self.store.window - MARGIN, 0) // PAGE
            for i in range(min(first, len(self.pages))):
                self._give_back(i)
            self._extend(start, n)

    def commit(self, end: int, *, mark: bool) -> None:
        """Nothing is left to do: what was written is where it belongs."""

    def rewind(self, length: int) -> int:
        """Forget positions from `length` on; 0 if the next token would see some that were given back."""
        seen = 0 if self.store.window is None else max(length + 1 - self.store.window, 0)
        if any(page == _GONE for page in self.pages[seen // PAGE : -(-length // PAGE)]):
            length = 0
        while len(self.pages) > -(-length // PAGE):
            self._give_back(len(self.pages) - 1)
            self.pages.pop()
        return length

    def fork(self) -> PageHold:
        """The same pages for another sequence."""
        return PageHold(
            self.store, [page if page == _GONE else self.store.places.share(page) for page in self.pages]
        )

    def close(self) -> None:
        """Give all pages back."""
        self.rewind(0)

    def columns(self) -> list[int]:
        """All pages in order."""
        return self.pages

    def _extend(self, start: int, n: int) -> None:
        if start % PAGE and n:
            first = start // PAGE
            self.pages[first] = self.store.own(self.pages[first])
        while len(self.pages) * PAGE < start + n:
            self.pages.append(self.store.places.take())

    def _give_back(self, i: int) -> None:
        if self.pages[i] != _GONE:
            self.store.places.release(self.pages[i])
            self.pages[i] = _GONE


def pages_of_window(window: int, n_batch: int) -> int:
    """The most pages that a sequence holds of a window."""
    return -(-(window + MARGIN + n_batch) // PAGE) + 2


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
