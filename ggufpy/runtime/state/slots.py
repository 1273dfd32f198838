"""Recurrent state: a slot holds all that some ops remember of a sequence, whole, at one place of its text.

A batch reads one slot and writes another, so the state before it is still there if it is interrupted, and
costs nothing to keep. Some are kept as marks: only to them, and to the beginning, a text can be rewound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi
from ggufpy.errors import ContextError
from ggufpy.runtime.state.store import Places

MARKS = 3  # for each sequence
_STRIDE = 64  # generated tokens from mark to mark


class Slots:
    """Slots for all recurrent ops of a model. sizes: floats of each op."""

    def __init__(self, sizes: list[int], n_seq: int) -> None:
        n_slots = n_seq * (2 + MARKS)
        self.places = Places(n_slots, "the recurrent state")
        try:
            self._data = [np.zeros((n_slots, size), np.float32) for size in sizes]
        except (MemoryError, ValueError):  # ValueError: more than NumPy can count
            raise ContextError(f"there is no memory for the state of {n_seq} sequences") from None
        self._pointers = [ffi.from_buffer("float[]", data) for data in self._data]

    def open(self) -> SlotHold:
        """The hold of an empty sequence."""
        return SlotHold(self)

    def describe(self, record: Any) -> None:
        """Fill what a gg_state says of the whole store."""
        record.is_pages, record.n_entries, record.window = 0, self.places.count, 0

    def describe_op(self, record: Any, op: int) -> None:
        """Fill a gg_slots with the state of an op, counted within this store."""
        record.data, record.floats = self._pointers[op], self._data[op].shape[1]
        record.n_slots = self.places.count

    def bytes_read(self, position: int) -> int:
        """Bytes that a row reads, wherever it is."""
        return sum(int(data[0].nbytes) for data in self._data)

    def clear(self, slot: int) -> None:
        """Make a slot that of an empty text."""
        data: NDArray[np.float32]
        for data in self._data:
            data[slot] = 0


class SlotHold:
    """The slots of one sequence: the current one, the one that a batch writes, and marks."""

    def __init__(self, store: Slots) -> None:
        self._store = store
        self._length = 0
        self._current: int | None = None  # None: of an empty text
        self._next: int | None = None
        self._marks: list[tuple[int, int]] = []  # position and slot, ascending

    def reserve(self, start: int, n: int) -> None:
        """Nothing is taken before a batch begins."""

    def begin(self, start: int, n: int) -> None:
        """Take the slot that the batch writes."""
        if self._current is None:
            self._current = self._store.places.take()
            self._store.clear(self._current)
        if self._next is None:
            self._next = self._store.places.take()

    def commit(self, end: int, *, mark: bool) -> None:
        """What was written is current; it becomes a mark if that is wanted, or it is long since the last."""
        assert self._next is not None
        places = self._store.places
        self._release(self._current)
        self._current, self._next, self._length = self._next, None, end
        last = self._marks[-1][0] if self._marks else 0
        if mark or end - last >= _STRIDE:
            self._marks.append((end, places.share(self._current)))
            if len(self._marks) > MARKS:
                self._release(self._marks.pop(0)[1])

    def rewind(self, length: int) -> int:
        """Go back to the last mark at or before `length`; stay where that is the current place."""
        self._release(self._next)
        self._next = None
        if length >= self._length:
            return self._length
        while self._marks and self._marks[-1][0] > length:
            self._release(self._marks.pop()[1])
        self._release(self._current)
        self._length, self._current = 0, None
        if self._marks:
            self._length, slot = self._marks[-1]
            self._current = self._store.places.share(slot)
        return self._length

    def fork(self) -> SlotHold:
        """The same state, and marks, for another sequence."""
        copy, share = SlotHold(self._store), self._store.places.share
        copy._length = self._length
        copy._current = None if self._current is None else share(self._current)
        copy._marks = [(position, share(slot)) for position, slot in self._marks]
        return copy

    def close(self) -> None:
        """Give all slots back."""
        self.rewind(-1)

    def columns(self) -> list[int]:
        """The slot to read and the one to write."""
        assert self._current is not None and self._next is not None
        return [self._current, self._next]

    def _release(self, slot: int | None) -> None:
        if slot is not None:
            self._store.places.release(slot)
