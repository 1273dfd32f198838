"""A sequence of the engine together with the tokens that its KV cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ggufpy.errors import ContextError, GgufpyError
from ggufpy.runtime.engine import FEW_TOKENS, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ggufpy.generate.sampler import Sampler
    from ggufpy.runtime.engine import Engine, Wanted


# Tokens per step when all logits are kept: bounds what its result holds.
_LOGITS_BATCH = 512


class Transcript:
    """What the engine has read and written, so that a text which begins the same is not computed again.

    keep_logits: keep the logits of every token, not only of the last. room_for: how many transcripts with
    full contexts the engine has room for. repeatable: what follows a prompt never depends on what was
    computed before: of a prompt that begins the same, only tokens are kept that were computed as a prompt of
    its length is, so answers are computed once more when a prompt repeats them. All methods raise GgufpyError
    once it is closed.
    """

    def __init__(
        self, engine: Engine, *, keep_logits: bool = False, room_for: int = 1, repeatable: bool = False
    ) -> None:
        self.engine = engine
        self.tokens: list[int] = []
        self.busy = False  # somebody generates in it
        self.closed = False
        self._sequence = engine.new_sequence()
        self._keep_logits = keep_logits
        self._room_for = room_for
        self._repeatable = repeatable and not engine.one_regime
        self._rows: NDArray[np.float32] | None = None
        self._last: NDArray[np.float32] | None = None  # the last token's logits, where not all are kept
        self._generated: list[bool] = []  # for each token: it was computed as generated ones are

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
            rows[-1] = self.logits()
        return rows

    def logits(self) -> NDArray[np.float32]:
        """Logits of the token that follows: (n_vocab,), a copy. Raises GgufpyError if there are no tokens."""
        return self._last_row().copy()

    def sample(self, sampler: Sampler) -> int:
        """Draw the token that follows. Raises GgufpyError if there are no tokens."""
        return sampler.draw(self._last_row())

    def prefill(self, tokens: Sequence[int]) -> int:
        """Make the cache hold exactly `tokens`, with the logits of the last one at hand.

        Returns how many had to be computed. Raises ContextError, and changes nothing, if they do not fit.
        """
        self._check(len(tokens))
        if not tokens:
            raise ContextError("the prompt is empty and the vocabulary has no BOS token to begin with")
        few = len(tokens) < FEW_TOKENS
        kept = min(common_prefix(self.tokens, tokens), len(tokens) - 1)
        if self._repeatable:
            kept = common_prefix(self._generated[:kept], [few] * kept)
        self.truncate(kept)
        kept = len(self.tokens)
        rest = list(tokens[kept:])
        self._eval(rest, generating=few if self._repeatable else len(rest) < FEW_TOKENS)
        return len(rest)

    def append(self, token: int) -> None:
        """Compute one generated token. Raises ContextError if the context is full."""
        self._eval([token], generating=True)

    def extend(self, tokens: Sequence[int]) -> None:
        """Compute more tokens of a prompt. Raises ContextError, and changes nothing, if they do not fit."""
        self._eval(list(tokens), generating=len(tokens) < FEW_TOKENS)

    def truncate(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        # An interrupt may have come between the engine's work and our note of it: the shorter of both counts.
        length = min(length, len(self.tokens), self._sequence.length)
        if length < len(self.tokens):
            self._last = None
        length = self._sequence.rewind(length)
        del self.tokens[length:], self._generated[length:]

    def fork(self) -> Transcript:
        """Another transcript with the same tokens; they are not computed again."""
        copy = Transcript(
            self.engine,
            keep_logits=self._keep_logits,
            room_for=self._room_for,
            repeatable=self._repeatable,
        )
        copy._sequence = self._sequence.fork()
        copy.tokens, copy._generated, copy._last = list(self.tokens), list(self._generated), self._last
        if self._rows is not None:
            copy._rows = np.zeros_like(self._rows)
            copy._rows[: len(self.tokens)] = self._rows[: len(self.tokens)]
        return copy

    def close(self) -> None:
        """Give the KV cache back."""
        if not self.closed:
            self.truncate(0)
            self._sequence.close()
            self.closed = True

    def _check(self, n_tokens: int) -> None:
        """Raise if this many tokens cannot be held."""
        if self.closed:
            raise GgufpyError("the model or chat of this text was closed; open a new one")
        if n_tokens > self.engine.n_ctx:
            raise too_long("text", n_tokens, self.engine.n_ctx)

    def _eval(self, tokens: list[int], *, generating: bool) -> None:
        if len(self.tokens) != self._sequence.length:
            self.truncate(len(self.tokens))  # interrupted between the engine's work and our note of it
        self._check(len(self.tokens) + len(tokens))
        if not tokens:
            return
        if not self._keep_logits:
            self._last = self._step(tokens, generating, "last")[-1]
            return
        for start in range(0, len(tokens), _LOGITS_BATCH):
            before = len(self.tokens)
            rows = self._step(tokens[start : start + _LOGITS_BATCH], generating, "all")
            if self._rows is None:
                # Zero pages cost nothing until they are written.
                self._rows = np.zeros((self.engine.n_ctx, self.engine.n_vocab), np.float32)
            self._rows[before : len(self.tokens)] = rows

    def _step(self, tokens: list[int], generating: bool, wanted: Wanted) -> NDArray[np.float32]:
        """Compute tokens that fit; returns the logits wanted of them."""
        before = len(self.tokens)
        try:
            return self.engine.step([Span(self._sequence, tokens, generating, wanted)]).rows(0)
        except ContextError:
            # Our own context has room: others have taken the pages.
            completions = "1 completion" if self._room_for == 1 else f"{self._room_for} completions"
            raise ContextError(
                f"more than {completions} at once in contexts of {self.engine.n_ctx}; "
                "finish or close another one, or open the model with a smaller context"
            ) from None
        except BaseException:
            if self._keep_logits:
                self._sequence.rewind(before)  # whose logits nobody has seen
            raise
        finally:
            # Interrupted, the engine keeps the batches that it has finished.
            if added := tokens[: self._sequence.length - before]:
                # In this order: whatever an interrupt leaves behind, `truncate` mends.
                self._generated += [generating] * len(added)
                self.tokens += added
                self._last = None

    def _last_row(self) -> NDArray[np.float32]:
        """The last token's logits; computed again if it was not the last one when it was computed."""
        self._check(len(self.tokens))
        if not self.tokens:
            raise GgufpyError("nothing has been evaluated yet; call eval first")
        if self._rows is not None:
            row: NDArray[np.float32] = self._rows[len(self.tokens) - 1]
            return row
        if self._last is None:
            tokens, generated = list(self.tokens), list(self._generated)
            self.truncate(len(tokens) - 1)
            for alike, run in groupby(range(len(self.tokens), len(tokens)), generated.__getitem__):
                self._eval([tokens[i] for i in run], generating=alike)
        assert self._last is not None
        return self._last


def too_long(what: str, n_tokens: int, n_ctx: int) -> ContextError:
    """The error about a text that is longer than the context."""
    return ContextError(
        f"the {what} has {n_tokens} tokens, the context holds {n_ctx}; "
        "shorten it, or open the model with a larger context"
    )


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts share from their beginning."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
