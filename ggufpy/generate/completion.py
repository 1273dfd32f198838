"""One text being written: tokens in, pieces of text out, until something ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ggufpy.generate.stream import TextStream

if TYPE_CHECKING:
    from ggufpy.tokenizers import Tokenizer

END = -1  # in place of a token: ends the text


@dataclass(slots=True)
class Work:
    """What was computed for a text, by whoever computes it.

    prompt_tokens: evaluated ones (what the KV cache already held is not among them), and how long that took
    with the draw of the first token. steps: those after the first token.
    """

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    steps: int = 0
    step_seconds: float = 0.0


class Completion:
    """One text, fed with its tokens.

    stop: strings that end the text. max_tokens: None for no limit.

    tokens: of the text so far, without the end token. finish_reason: "stop" (end token or stop string),
    "length" (max_tokens reached or context full), None while it goes on.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, stop: Sequence[str] = (), max_tokens: int | None = None
    ) -> None:
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self.work = Work()
        self._tokenizer = tokenizer
        self._stream = TextStream(stop)
        self._stops = {text.encode("utf-8", "surrogatepass") for text in stop if text}
        self._max_tokens = max_tokens

    def feed(self, token: int) -> str:
        """Take the next token, which may finish the text; returns the text that is certain now, often "".

        END finishes it as the vocabulary's end tokens do.
        """
        if token == END or token in self._tokenizer.eog_ids:
            return self.finish("stop")
        data = token_bytes(self._tokenizer, token)
        if not data and self._is_stop(token):
            return self.finish("stop")
        self.tokens.append(token)
        text = self._stream.push(data)
        if self._stream.stopped:
            text += self.finish("stop")
        elif self._max_tokens is not None and len(self.tokens) >= self._max_tokens:
            text += self.finish("length")
        return text

    def _is_stop(self, token: int) -> bool:
        """Whether a stop string names this token, which has no text."""
        return bool(self._stops) and token_bytes(self._tokenizer, token, special=True) in self._stops

    def finish(self, reason: str) -> str:
        """No more tokens come; returns what was held back in case a stop string had begun."""
        self.finish_reason = reason
        return self._stream.finish()

    def report(self) -> str:
        """Tokens and tokens per second, of the prompt and of the answer."""
        work = self.work
        prompt = _rate(work.prompt_tokens, work.prompt_seconds)
        return f"prompt: {prompt}; answer: {_rate(work.steps, work.step_seconds, len(self.tokens))}"


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
