"""The generation loop: prompt tokens in, pieces of text out, until something ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ggufpy.generate.stream import TextStream
from ggufpy.generate.transcript import Transcript

if TYPE_CHECKING:
    from ggufpy.tokenizers import Tokenizer

# Chooses the next token from the logits of the engine's last evaluation; END ends the text.
Pick = Callable[[Transcript], int]
END = -1


class Completion:
    """One text being generated.

    transcript: the sequence to generate in. pick: chooses each next token. stop: strings that end the text.
    max_tokens: None for as many as the context holds. lock: held for each step, not between them.

    tokens: generated so far, without the end token. finish_reason: "stop" (end token or stop string),
    "length" (max_tokens reached or context full), None while it runs. The counts and seconds are for the
    engine's work alone: evaluated prompt tokens (what the KV cache already held is not among them), and steps
    after the first token.
    """

    def __init__(
        self,
        transcript: Transcript,
        tokenizer: Tokenizer,
        pick: Pick,
        *,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self.prompt_tokens = 0
        self.prompt_seconds = 0.0
        self.steps = 0
        self.step_seconds = 0.0
        self._transcript = transcript
        self._tokenizer = tokenizer
        self._pick = pick
        self._stream = TextStream(stop)
        self._max_tokens = max_tokens
        self._lock = lock or nullcontext()

    def run(
        self, prompt: list[int], refill: Callable[[], list[int] | None] | None = None
    ) -> Generator[str, None, None]:
        """Generate; yield "" or more text after each token, then what was held back.

        refill: called when the context is full; returns a shorter prompt to go on from, or None to finish.
        Raises ContextError if the prompt leaves no room for a token.
        """
        token = self._start(prompt)
        while (text := self._take(token)) is not None:
            yield text
            if self.finish_reason is not None:
                break
            if self._transcript.room > 0:
                token = self._step()
            elif refill is not None and (shorter := refill()) is not None:
                token = self._start(shorter + self.tokens)
            else:
                self.finish_reason = "length"
                break
        if rest := self._stream.finish():
            yield rest

    def _start(self, prompt: list[int]) -> int:
        begun = time.perf_counter()
        with self._lock:
            self.prompt_tokens += self._transcript.prefill(prompt)
            token = self._pick(self._transcript)
        self.prompt_seconds += time.perf_counter() - begun
        return token

    def _step(self) -> int:
        begun = time.perf_counter()
        with self._lock:
            self._transcript.append(self.tokens[-1])
            token = self._pick(self._transcript)
        self.steps += 1
        self.step_seconds += time.perf_counter() - begun
        return token

    def _take(self, token: int) -> str | None:
        """Add a token to the text; None if it is an end token."""
        if token == END or token in self._tokenizer.eog_ids:
            self.finish_reason = "stop"
            return None
        self.tokens.append(token)
        text = self._stream.push(token_bytes(self._tokenizer, token))
        if self._stream.stopped:
            self.finish_reason = "stop"
        elif self._max_tokens is not None and len(self.tokens) >= self._max_tokens:
            self.finish_reason = "length"
        return text

    def report(self) -> str:
        """Tokens and tokens per second, of the prompt and of the answer."""
        prompt = _rate(self.prompt_tokens, self.prompt_seconds)
        return f"prompt: {prompt}; answer: {_rate(self.steps, self.step_seconds, len(self.tokens))}"


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a prompt or a rendered template: special tokens are read as such, one BOS in front if wanted.

    No EOS is added, whatever the vocabulary asks for: the text goes on after a prompt.
    """
    tokens = tokenizer.encode(text, add_special=False, parse_special=True)
    if tokenizer.add_bos and tokenizer.bos_id is not None and tokens[:1] != [tokenizer.bos_id]:
        return [tokenizer.bos_id, *tokens]
    return tokens


def token_bytes(tokenizer: Tokenizer, token: int, *, special: bool = False) -> bytes:
    """The bytes of a token that a model chose; none if it is padding behind the vocabulary."""
    return tokenizer.token_bytes(token, special=special) if token < tokenizer.n_vocab else b""


def _rate(measured: int, seconds: float, tokens: int | None = None) -> str:
    count = measured if tokens is None else tokens
    rate = f"{measured / seconds:.1f} tokens/s" if measured and seconds > 0 else "- tokens/s"
    return f"{count} token{'' if count == 1 else 's'}, {rate}"
