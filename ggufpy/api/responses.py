"""What `Llama` returns: dictionaries of the OpenAI API's shape, as llama-cpp-python fills them.

Source: llama-cpp-python 0.3, llama_cpp/llama_types.py.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import NotRequired, TypedDict

from ggufpy.api.request import Piece, Placed, Request


class CompletionLogprobs(TypedDict):
    r"""Per token: its text, the character in which it begins, its log-probability, the likeliest tokens'.

    Offsets count the characters of prompt and answer. A token that is not whole characters is written as
    "bytes:" and its bytes, as \xf0.
    """

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(TypedDict):
    """A text; finish_reason is "stop" or "length", None in a chunk that is not the last."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class CompletionUsage(TypedDict):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionResponse(TypedDict):
    """A whole completion, or a chunk of a streamed one; only a chunk without choices has usage."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[CompletionUsage]


class ChatTopLogprob(TypedDict):
    """One of the likeliest tokens: `token` as in `CompletionLogprobs`, its bytes."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(ChatTopLogprob):
    """A token of the answer."""

    top_logprobs: list[ChatTopLogprob]


class ChatLogprobs(TypedDict):
    """Log-probabilities of an answer's tokens."""

    content: list[ChatTokenLogprob]
    refusal: str | None


class ChatMessage(TypedDict):
    """The answer."""

    role: str
    content: str


class ChatDelta(TypedDict, total=False):
    """What a chunk adds to the message: first the role, then content."""

    role: str
    content: str


class ChatChoice(TypedDict):
    """An answer: `message` in a whole one, `delta` in a chunk."""

    index: int
    message: NotRequired[ChatMessage]
    delta: NotRequired[ChatDelta]
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatResponse(TypedDict):
    """A whole chat completion, or a chunk of a streamed one; usage as in `CompletionResponse`."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: NotRequired[CompletionUsage]


class Responses:
    """Makes the responses of one call, which share id, time and model.

    requests: one for each prompt; a chat has one. bytes_of: the bytes of a token, a special one's name.
    """

    def __init__(self, requests: Sequence[Request], model: str, bytes_of: Callable[[int], bytes]) -> None:
        self._requests = requests
        self._id = f"cmpl-{uuid.uuid4()}"
        self._created = int(time.time())
        self._model = model
        self._bytes_of = bytes_of

    def completion(self) -> CompletionResponse:
        """The whole texts."""
        choices = [self._choice(i, request.whole()) for i, request in enumerate(self._requests)]
        return self._completion(choices, self._usage())

    def completion_chunks(self, include_usage: bool) -> Iterator[CompletionResponse]:
        """Text as it comes. include_usage: one more chunk without choices says how many tokens there were."""
        for i, request in enumerate(self._requests):
            for piece in request.pieces():
                yield self._completion([self._choice(i, piece)])
        if include_usage:
            yield self._completion([], self._usage())

    def chat(self) -> ChatResponse:
        """The whole answer."""
        piece = self._requests[0].whole()
        message: ChatMessage = {"role": "assistant", "content": piece.text}
        choice: ChatChoice = {
            "index": 0,
            "message": message,
            "logprobs": self._chat_logprobs(piece.tokens),
            "finish_reason": piece.finish_reason,
        }
        return self._chat("chat.completion", choice, self._usage())

    def chat_chunks(self, include_usage: bool) -> Iterator[ChatResponse]:
        """The answer as it comes, after a chunk that names the role; include_usage: as above."""
        begun = False
        for piece in self._requests[0].pieces():
            if not begun:
                yield self._chat_chunk({"role": "assistant"}, Piece(""))
                begun = True
            yield self._chat_chunk({"content": piece.text} if piece.finish_reason is None else {}, piece)
        if include_usage:
            yield self._chat("chat.completion.chunk", None, self._usage())

    def _usage(self) -> CompletionUsage:
        used = sum(len(request.prompt) for request in self._requests)
        made = sum(len(request.completion.tokens) for request in self._requests)
        return {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}

    def _completion(
        self, choices: list[CompletionChoice], usage: CompletionUsage | None = None
    ) -> CompletionResponse:
        response: CompletionResponse = {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        return {**response, "usage": usage} if usage else response

    def _choice(self, index: int, piece: Piece) -> CompletionChoice:
        return {
            "text": piece.text,
            "index": index,
            "logprobs": self._logprobs(piece.tokens),
            "finish_reason": piece.finish_reason,
        }

    def _chat(
        self, object: str, choice: ChatChoice | None, usage: CompletionUsage | None = None
    ) -> ChatResponse:
        response: ChatResponse = {
            "id": "chat" + self._id,
            "object": object,
            "created": self._created,
            "model": self._model,
            "choices": [choice] if choice else [],
        }
        return {**response, "usage": usage} if usage else response

    def _chat_chunk(self, delta: ChatDelta, piece: Piece) -> ChatResponse:
        choice: ChatChoice = {
            "index": 0,
            "delta": delta,
            "logprobs": self._chat_logprobs(piece.tokens),
            "finish_reason": piece.finish_reason,
        }
        return self._chat("chat.completion.chunk", choice)

    def _logprobs(self, tokens: Sequence[Placed] | None) -> CompletionLogprobs | None:
        if tokens is None:
            return None
        tops = [
            None
            if each.logprob is None
            else {
                self._name(token): p for token, p in [*each.logprob.top, (each.token, each.logprob.logprob)]
            }
            for each in tokens
        ]
        return {
            "text_offset": [each.offset for each in tokens],
            "token_logprobs": [each.logprob.logprob if each.logprob else None for each in tokens],
            "tokens": [self._name(each.token) for each in tokens],
            "top_logprobs": tops,
        }

    def _chat_logprobs(self, tokens: Sequence[Placed] | None) -> ChatLogprobs | None:
        if tokens is None:
            return None
        content: list[ChatTokenLogprob] = []
        for each in tokens:
            assert each.logprob is not None  # a chat has no echo
            best = [self._chat_logprob(*pair) for pair in each.logprob.top]
            content.append({**self._chat_logprob(each.token, each.logprob.logprob), "top_logprobs": best})
        return {"content": content, "refusal": None}

    def _chat_logprob(self, token: int, logprob: float) -> ChatTopLogprob:
        return {"token": self._name(token), "logprob": logprob, "bytes": list(self._bytes_of(token))}

    def _name(self, token: int) -> str:
        """A token's text; that of a part of a character says its bytes, as OpenAI's does."""
        data = self._bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
