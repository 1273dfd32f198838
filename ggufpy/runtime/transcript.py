"""A sequence of the engine together with the tokens that its KV cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ggufpy.errors import ContextError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ggufpy.runtime.engine import Engine, Wanted


# Tokens per evaluation when all logits are kept: bounds the engine's copy of them.
_LOGITS_BATCH = 512


class Transcript:
    """What the engine has read and written, so that a text which begins the same is not computed again.

    keep_logits: keep the logits of every token, not only of the last.
    """

    def __init__(self, engine: Engine, *, keep_logits: bool = False) -> None:
        self.engine = engine
        self.tokens: list[int] = []
        self.busy = False  # a completion is running in it
        self._sequence = engine.new_sequence()
        self._keep_logits = keep_logits
        self._rows: NDArray[np.float32] | None = None

    @property
    def room(self) -> int:
        """How many more tokens fit in the context."""
        return self.engine.n_ctx - len(self.tokens)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Logits, (tokens, n_vocab); without keep_logits only the last row is filled, the others are 0."""
        count = len(self.tokens)
        if self._rows is not None:
            return self._rows[:count]
        rows = np.zeros((count, self.engine.n_vocab), np.float32)
        if count:
            rows[-1] = self.engine.logits()[-1]
        return rows

    def prefill(self, tokens: Sequence[int]) -> int:
        """Make the cache hold exactly `tokens`, with the logits of the last one at hand.

        Returns how many had to be computed. Raises ContextError, and changes nothing, if they do not fit.
        """
        if not tokens:
            raise ContextError("the prompt is empty and the vocabulary has no BOS token to begin with")
        if len(tokens) > self.engine.n_ctx:
            raise ContextError(
                f"the prompt has {len(tokens)} tokens, the context holds {self.engine.n_ctx}; "
                "shorten it, or open the model with a larger context"
            )
        self.truncate(min(common_prefix(self.tokens, tokens), len(tokens) - 1))
        kept = len(self.tokens)
        self._eval(list(tokens[kept:]), generating=False)
        return len(tokens) - kept

    def append(self, token: int) -> None:
        """Compute one generated token. Raises ContextError if the context is full."""
        self._eval([token], generating=True)

    def extend(self, tokens: Sequence[int]) -> None:
        """Compute more tokens of a prompt. Raises ContextError, and changes nothing, if they do not fit."""
        self._eval(list(tokens), generating=False)

    def truncate(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        # An interrupt may have come between the engine's work and our note of it: the shorter of both counts.
        length = min(length, len(self.tokens), self._sequence.length)
        self._sequence.truncate(length)
        del self.tokens[length:]

    def close(self) -> None:
        """Give the KV cache back."""
        self._sequence.close()
        self.tokens = []

    def _eval(self, tokens: list[int], *, generating: bool) -> None:
        if len(tokens) > self.room:
            raise ContextError(
                f"{len(self.tokens)} tokens and {len(tokens)} more do not fit in a context of "
                f"{self.engine.n_ctx}; open the model with a larger one"
            )
        if not self._keep_logits:
            self._eval_batch(tokens, generating, "last")
            return
        for start in range(0, len(tokens), _LOGITS_BATCH):
            before = len(self.tokens)
            self._eval_batch(tokens[start : start + _LOGITS_BATCH], generating, "all")
            if self._rows is None:
                # Zero pages cost nothing until they are written.
                self._rows = np.zeros((self.engine.n_ctx, self.engine.n_vocab), np.float32)
            self._rows[before : len(self.tokens)] = self.engine.logits()

    def _eval_batch(self, tokens: list[int], generating: bool, logits: Wanted) -> None:
        before = len(self.tokens)
        try:
            self.engine.eval(self._sequence, tokens, generating=generating, logits=logits)
        except BaseException:
            if self._keep_logits:
                self._sequence.truncate(before)  # whose logits nobody has seen
            raise
        finally:
            # Interrupted, the engine keeps the micro-batches that it has finished.
            self.tokens += tokens[: self._sequence.length - before]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts share from their beginning."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
