"""The interface of state: stores for layers whose state lives equally long, holds for a sequence's part."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from ggufpy.errors import ContextError


class Hold(Protocol):
    """One sequence's part of a store. Positions are counted in tokens from the beginning of the text."""

    def reserve(self, start: int, n: int) -> None:
        """Make room for n tokens from `start` on, as far as that is taken at once; raises ContextError."""

    def begin(self, start: int, n: int) -> None:
        """A batch with n tokens from `start` on is about to run; raises ContextError."""

    def commit(self, end: int, *, mark: bool) -> None:
        """The batch has run, the state is that after `end` tokens. mark: `rewind` shall find back to it."""

    def rewind(self, length: int) -> int:
        """Forget what came after `length` tokens; returns where the text goes on: `length`, or less."""

    def fork(self) -> Hold:
        """The same state for another sequence."""

    def close(self) -> None:
        """Give everything back."""

    def columns(self) -> list[int]:
        """What a batch tells C: the pages, or the slots to read and to write."""


class Store(Protocol):
    """State of some layers, for all sequences."""

    def open(self) -> Hold:
        """The hold of an empty sequence."""

    def describe(self, record: Any) -> None:
        """Fill what a gg_state says of the whole store."""

    def bytes_read(self, position: int) -> int:
        """Bytes that a row at `position` reads."""


class Places:
    """Numbered places of a store, each held by one or more sequences."""

    def __init__(self, count: int, what: str) -> None:
        self.count = count
        self._what = what
        self._n_used = 0  # places that were taken at least once; those beyond have no memory yet
        self._free: list[int] = []
        self._references = Counter[int]()

    def take(self) -> int:
        """A free place; raises ContextError if there is none."""
        if self._free:
            place = self._free.pop()
        elif self._n_used < self.count:
            place = self._n_used
            self._n_used += 1
        else:
            raise ContextError(f"{self._what} is full; close a sequence or make the context larger")
        self._references[place] = 1
        return place

    def share(self, place: int) -> int:
        """One more holds `place`."""
        self._references[place] += 1
        return place

    def release(self, place: int) -> None:
        """One less holds `place`."""
        self._references[place] -= 1
        if self._references[place] == 0:
            self._free.append(place)

    def is_shared(self, place: int) -> bool:
        """Whether more than one holds `place`."""
        return self._references[place] > 1
