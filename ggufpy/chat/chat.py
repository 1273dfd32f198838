"""A conversation: messages, the KV cache that goes with them, and what happens when the context is full."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ggufpy.errors import ContextError
from ggufpy.generate.completion import Completion, encode_prompt
from ggufpy.generate.picking import sampling
from ggufpy.generate.sampler import Sampler, SamplingParams
from ggufpy.generate.transcript import Transcript, too_long
from ggufpy.generate.writer import Writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ggufpy.chat.templates import ChatTemplate
    from ggufpy.runtime.engine import Engine
    from ggufpy.tokenizers import Tokenizer

Turn = dict[str, str]  # role, content


class Chat:
    """Answers messages, and remembers them as far as the context reaches.

    Only what is new is computed: the KV cache is kept as far as the rendered conversation begins the same.
    When the context is full, the oldest turns (a user message and its answer) are dropped until a quarter of
    it is free, or only the last turn is left; the system message stays.

    params: how tokens are chosen; its seed makes the whole conversation repeatable, though not each answer
    the same. max_tokens: limit of one answer, None for none. stop: strings that end an answer. bias: added to
    the logits, (n_vocab,). turns: the messages without the system message. completion: the last answer's
    counts and times. dropped: how many turns were dropped for the last answer.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        params: SamplingParams,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        bias: NDArray[np.float32] | None = None,
    ) -> None:
        self.turns: list[Turn] = []
        self.completion: Completion | None = None
        self.dropped = 0
        self._engine = engine
        self._tokenizer = tokenizer
        self._template = template
        self._params = params
        self._seeds = random.Random(params.seed)
        self._system: list[Turn] = [{"role": "system", "content": system}] if system else []
        self._max_tokens = max_tokens
        self._stop, self._bias = stop, bias
        self._transcript = Transcript(engine)

    def ask(self, text: str) -> Generator[str, None, None]:
        """Answer a message, piece by piece. A partial answer stays in the conversation.

        Raises ContextError if the message alone does not fit in the context, TemplateError if the template
        refuses it; the conversation is then as before.
        """
        turns = self.turns
        if turns and not turns[-1]["content"]:
            turns = turns[:-2]  # an answer that was stopped before its first word says nothing
        yield from self._answer([*turns, {"role": "user", "content": text}])

    def regenerate(self) -> Generator[str, None, None]:
        """Answer the last message once more. Yields nothing if there is none."""
        if self.turns:
            yield from self._answer(self.turns[:-1])

    def clear(self) -> None:
        """Forget all turns."""
        self.turns = []

    def close(self) -> None:
        """Give the KV cache back to the engine; nothing can be asked any more."""
        self._transcript.close()

    def _answer(self, turns: list[Turn]) -> Generator[str, None, None]:
        fitting, prompt = self._fit(turns)
        self.dropped = (len(turns) - len(fitting)) // 2
        self.turns = fitting
        sampler = Sampler(replace(self._params, seed=self._seeds.getrandbits(32)), bias=self._bias)
        for token in prompt:
            sampler.accept(token)
        self.completion = Completion(self._tokenizer, stop=self._stop, max_tokens=self._max_tokens)
        writer = Writer(self.completion, self._transcript, sampling(sampler))
        answer = {"role": "assistant", "content": ""}
        try:
            for piece in writer.run(prompt, self._refill):
                answer["content"] += piece
                yield piece
        finally:
            self.turns.append(answer)

    def _refill(self) -> list[int] | None:
        """Make room in the middle of an answer: drop turns before the one being answered."""
        assert self.completion is not None
        try:
            turns, prompt = self._fit(self.turns, len(self.completion.tokens))
        except ContextError:
            return None
        self.dropped += (len(self.turns) - len(turns)) // 2
        self.turns = turns
        return prompt

    def _fit(self, turns: list[Turn], answered: int = 0) -> tuple[list[Turn], list[int]]:
        """Drop the oldest of `turns` until their prompt and `answered` tokens of an answer leave room.

        Returns the turns that are left, and their prompt. Raises ContextError if even the last is too long.
        """
        n_ctx = self._engine.n_ctx
        prompt = self._prompt(turns)
        if len(prompt) + answered < n_ctx:
            return turns, prompt
        while len(prompt) + answered > n_ctx * 3 // 4 and len(turns) > 2:
            turns = turns[2:]
            prompt = self._prompt(turns)
        if len(prompt) + answered >= n_ctx:
            raise too_long("message", len(prompt), n_ctx)
        return turns, prompt

    def _prompt(self, turns: list[Turn]) -> list[int]:
        return encode_prompt(self._tokenizer, self._template.render([*self._system, *turns]))
