"""One call of `Llama.create_completion`, answered whole or in pieces."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ggufpy.generate.completion import Completion, token_bytes
from ggufpy.generate.picking import Pick, TokenLogprob, recording
from ggufpy.generate.pool import TranscriptPool
from ggufpy.generate.transcript import Transcript
from ggufpy.generate.writer import Writer

if TYPE_CHECKING:
    from ggufpy.tokenizers import Tokenizer


@dataclass(frozen=True)
class Placed:
    """A token, the character of prompt and answer in which it begins, and its log-probability.

    logprob: None for the first token of a prompt, about which nothing is known.
    """

    offset: int
    token: int
    logprob: TokenLogprob | None


@dataclass(frozen=True)
class Piece:
    """Text that came; the last piece has the finish_reason. tokens: None if they were not asked for."""

    text: str
    finish_reason: str | None = None
    tokens: Sequence[Placed] | None = None


@dataclass
class Request:
    """What was asked for, once.

    text, prompt: the prompt, and its tokens. logprobs: how many likeliest tokens to report, None for no
    log-probabilities. texts: lends the transcript to generate in.
    """

    tokenizer: Tokenizer
    text: str
    prompt: list[int]
    pick: Pick
    stop: Sequence[str]
    max_tokens: int
    echo: bool
    logprobs: int | None
    verbose: bool
    texts: TranscriptPool
    _record: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.completion = Completion(self.tokenizer, stop=self.stop, max_tokens=self.max_tokens)

    def whole(self) -> Piece:
        """Generate all of the text, then return it."""
        with self.texts.lend() as transcript:
            text = "".join(self._writer(transcript).run(self.prompt))
            tokens = self._prompt_tokens(transcript) if self.echo and self.logprobs is not None else []
        self._report()
        begin, reason = len(self.text), self.completion.finish_reason
        tokens += _inside(self._placed(_Places(begin)), begin + len(text), reason)
        return Piece(
            self.text + text if self.echo else text, reason, tokens if self.logprobs is not None else None
        )

    def pieces(self) -> Iterator[Piece]:
        """Generate text and yield it as it comes; the last piece has no text, but the finish_reason."""
        if self.echo:
            yield Piece(self.text)
        places, end, waiting = _Places(len(self.text)), len(self.text), list[Placed]()
        with self.texts.lend() as transcript:
            for text in self._writer(transcript).run(self.prompt):
                end += len(text)
                waiting += self._placed(places)
                if text:
                    begun = [token for token in waiting if token.offset < end]
                    del waiting[: len(begun)]
                    yield Piece(text, None, begun or None)
        self._report()
        reason = self.completion.finish_reason
        yield Piece("", reason, _inside(waiting, end, reason) or None)

    def _writer(self, transcript: Transcript) -> Writer:
        pick = self.pick
        if self.logprobs is not None:
            pick = recording(pick, self.logprobs, self._record)
        return Writer(self.completion, transcript, pick, self.texts.lock)

    def _placed(self, places: _Places) -> list[Placed]:
        """The tokens that were generated since the last call."""
        placed = [Placed(places.next(self._bytes(e.token)), e.token, e) for e in self._record]
        self._record.clear()
        return placed

    def _bytes(self, token: int) -> bytes:
        return token_bytes(self.tokenizer, token)

    def _prompt_tokens(self, transcript: Transcript) -> list[Placed]:
        """The prompt's tokens, without a BOS. Row i of the scores is about token i + 1."""
        assert self.logprobs is not None
        first = 1 if self.prompt[0] == self.tokenizer.bos_id else 0
        shown = self.prompt[first:]
        texts = [self.tokenizer.token_bytes(token, special=True) for token in shown]
        # A SentencePiece vocabulary puts a space in front that the text does not have.
        extra = len(b"".join(texts).decode("utf-8", "replace")) - len(self.text)
        places = _Places(-max(extra, 0))
        offsets = [max(places.next(text), 0) for text in texts]
        rows = transcript.scores[first : len(self.prompt) - 1]
        known = [
            TokenLogprob.of(token, row, self.logprobs) for token, row in zip(shown[1:], rows, strict=True)
        ]
        return [Placed(*columns) for columns in zip(offsets, shown, [None, *known], strict=True)]

    def _report(self) -> None:
        if self.verbose:
            print(self.completion.report(), file=sys.stderr)


class _Places:
    """Counts the characters of a text, token by token. offset: of the first."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def next(self, data: bytes) -> int:
        """The character in which the next token, `data`, begins."""
        begin = self._offset
        self._offset += len(self._decoder.decode(data))
        return begin


def _inside(tokens: list[Placed], end: int, finish_reason: str | None) -> list[Placed]:
    """Without the tokens that stopped the text, which are not part of it."""
    return tokens if finish_reason == "length" else [token for token in tokens if token.offset < end]
