"""One text alone: its prompt is computed, then token after token is drawn, fed and computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from ggufpy.generate.completion import Completion
from ggufpy.generate.picking import Pick
from ggufpy.generate.transcript import Transcript


@dataclass
class Writer:
    """Writes a completion for as long as its text is asked for.

    transcript: the sequence to write in. pick: chooses each next token. lock: held for each step, not between
    them.
    """

    completion: Completion
    transcript: Transcript
    pick: Pick
    lock: AbstractContextManager[object] = field(default_factory=nullcontext)

    def run(
        self, prompt: list[int], refill: Callable[[], list[int] | None] | None = None
    ) -> Generator[str, None, None]:
        """Continue `prompt`; yield "" or more text after each token.

        refill: called when the context is full; returns a shorter prompt to go on from, or None to finish.
        Raises ContextError if the prompt leaves no room for a token.
        """
        completion = self.completion
        token = self._start(prompt)
        while True:
            yield completion.feed(token)
            if completion.finish_reason is not None:
                return
            if self.transcript.room > 0:
                token = self._step(completion.tokens[-1])
            elif refill is not None and (shorter := refill()) is not None:
                token = self._start(shorter + completion.tokens)
            else:
                yield completion.finish("length")
                return

    def _start(self, prompt: list[int]) -> int:
        work, begun = self.completion.work, time.perf_counter()
        with self.lock:
            work.prompt_tokens += self.transcript.prefill(prompt)
            token = self.pick(self.transcript)
        work.prompt_seconds += time.perf_counter() - begun
        return token

    def _step(self, last: int) -> int:
        work, begun = self.completion.work, time.perf_counter()
        with self.lock:
            self.transcript.append(last)
            token = self.pick(self.transcript)
        work.steps += 1
        work.step_seconds += time.perf_counter() - begun
        return token
