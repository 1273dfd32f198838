"""One call of `Llama.create_completion`, answered whole or in chunks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ggufpy.api.responses import (
    CompletionFactory,
    CompletionLogprobs,
    CompletionResponse,
    completion_logprobs,
)
from ggufpy.generate.completion import Completion, token_bytes
from ggufpy.generate.picking import Pick, TokenLogprob, recording
from ggufpy.generate.pool import TranscriptPool
from ggufpy.generate.transcript import Transcript
from ggufpy.generate.writer import Writer

if TYPE_CHECKING:
    from ggufpy.tokenizers import Tokenizer


@dataclass
class Request:
    """What was asked for.

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
    model: str
    verbose: bool
    texts: TranscriptPool
    _record: list[TokenLogprob] = field(default_factory=list)

    def whole(self) -> CompletionResponse:
        """Generate all of the text, then return it."""
        respond, completion = CompletionFactory(self.model), self._completion()
        with self.texts.lend() as transcript:
            text = "".join(self._writer(transcript, completion).run(self.prompt))
            logprobs = self._whole_logprobs(transcript)
        self._report(completion)
        response = respond(self.text + text if self.echo else text, completion.finish_reason, logprobs)
        used, made = len(self.prompt), len(completion.tokens)
        response["usage"] = {
            "prompt_tokens": used,
            "completion_tokens": made,
            "total_tokens": used + made,
        }
        return response

    def chunks(self) -> Iterator[CompletionResponse]:
        """Generate text and yield it as it comes; the last chunk has no text, but the finish_reason."""
        respond, completion = CompletionFactory(self.model), self._completion()
        if self.echo:
            yield respond(self.text)
        with self.texts.lend() as transcript:
            offset = len(self.text)
            for text in self._writer(transcript, completion).run(self.prompt):
                if text:
                    yield respond(text, None, self._new_logprobs(offset))
                    offset += len(text)
        self._report(completion)
        yield respond("", completion.finish_reason, self._new_logprobs(offset))

    def _completion(self) -> Completion:
        return Completion(self.tokenizer, stop=self.stop, max_tokens=self.max_tokens)

    def _writer(self, transcript: Transcript, completion: Completion) -> Writer:
        pick = self.pick
        if self.logprobs is not None:
            pick = recording(pick, self.logprobs, self._record)
        return Writer(completion, transcript, pick, self.texts.lock)

    def _new_logprobs(self, offset: int) -> CompletionLogprobs | None:
        """Log-probabilities of the tokens since the last chunk."""
        if not self._record:
            return None
        logprobs = completion_logprobs(self._record, self._text_of, offset)
        self._record.clear()
        return logprobs

    def _whole_logprobs(self, transcript: Transcript) -> CompletionLogprobs | None:
        if self.logprobs is None:
            return None
        if not self.echo:
            return completion_logprobs(self._record, self._text_of, len(self.text))
        # Row i of the scores is about token i + 1; nothing is known about the first.
        scores = transcript.scores[: len(self.prompt)]
        first = 1 if self.prompt[0] == self.tokenizer.bos_id else 0
        rows = [
            TokenLogprob.of(self.prompt[i], scores[max(i - 1, 0)], self.logprobs)
            for i in range(first, len(self.prompt))
        ]
        logprobs = completion_logprobs([*rows, *self._record], self._text_of, 0)
        if logprobs["tokens"]:
            logprobs["token_logprobs"][0] = None
            logprobs["top_logprobs"][0] = None
        return logprobs

    def _text_of(self, token: int) -> str:
        return token_bytes(self.tokenizer, token, special=True).decode("utf-8", errors="replace")

    def _report(self, completion: Completion) -> None:
        if self.verbose:
            print(completion.report(), file=sys.stderr)
