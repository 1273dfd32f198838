"""A text, as far as its state goes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence as Items
from typing import NoReturn

from ggufpy.errors import ContextError
from ggufpy.runtime.state.store import Hold


class Sequence:
    """What is remembered of one text: `length` tokens, in `holds`, one for each store of the engine.

    What it holds goes back when it is closed or collected.
    """

    def __init__(self, owner: object, holds: Items[Hold], limit: int) -> None:
        self.length = 0
        self.owner = owner
        self.holds = list(holds)
        self._limit = limit
        weakref.finalize(self, _close, self.holds).atexit = False

    def reserve(self, n: int) -> None:
        """Make room for `n` more tokens; raises ContextError, and changes nothing, if there is none."""
        if self.length + n > self._limit:
            raise ContextError(
                f"{self.length + n} tokens do not fit into a context of {self._limit}; "
                "shorten the text or make the context larger"
            )
        try:
            for hold in self.holds:
                hold.reserve(self.length, n)
        except BaseException:
            self.undo()
            raise

    def begin(self, n: int) -> None:
        """A batch with the next `n` tokens is about to run; raises ContextError."""
        for hold in self.holds:
            hold.begin(self.length, n)

    def commit(self, n: int, *, mark: bool) -> None:
        """The batch has run. mark: this is a place to rewind to."""
        for hold in self.holds:
            hold.commit(self.length + n, mark=mark)
        self.length += n

    def undo(self) -> None:
        """Give back what was taken for tokens that were not computed.

        If an interrupt came between one hold's commit and another's, some computed ones are forgotten too.
        """
        self.rewind(self.length)

    def rewind(self, length: int) -> int:
        """Forget tokens from `length` on; returns how many are left, which may be fewer.

        Recurrent state goes back to marks only, and windows forget what slid out of them.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind {self.length} tokens to {length}")
        while any((reached := hold.rewind(length)) < length for hold in self.holds):
            length = reached
        self.length = length
        return length

    def fork(self) -> Sequence:
        """Another sequence that begins with the same tokens, without copying them."""
        copy = Sequence(self.owner, [hold.fork() for hold in self.holds], self._limit)
        copy.length = self.length
        return copy

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sequence cannot be copied or pickled; use fork()")

    def close(self) -> None:
        """Give everything back; the text is empty then."""
        self.length = 0
        _close(self.holds)


def _close(holds: list[Hold]) -> None:
    for hold in holds:
        hold.close()
