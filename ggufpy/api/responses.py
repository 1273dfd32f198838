"""What `Llama` returns: dictionaries of the OpenAI API's shape, as llama-cpp-python fills them.

Source: llama-cpp-python 0.3, llama_cpp/llama_types.py.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NotRequired, TypedDict

from ggufpy.generate.picking import TokenLogprob


class CompletionLogprobs(TypedDict):
    """Per token: its text, where in the text it begins, its log-probability, and the likeliest tokens'."""

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
    """A whole completion, or a chunk of a streamed one (without usage)."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[CompletionUsage]


class ChatTopLogprob(TypedDict):
    """One of the likeliest tokens."""

    token: str
    logprob: float
    bytes: list[int] | None


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
    """A whole chat completion, or a chunk of a streamed one (without usage)."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: NotRequired[CompletionUsage]


class CompletionFactory:
    """Builds the responses of one request, which share id, time and model."""

    def __init__(self, model: str) -> None:
        self._id = f"cmpl-{uuid.uuid4()}"
        self._created = int(time.time())
        self._model = model

    def __call__(
        self, text: str, finish_reason: str | None = None, logprobs: CompletionLogprobs | None = None
    ) -> CompletionResponse:
        """A chunk, or, with usage added, a whole completion."""
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [{"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish_reason}],
        }


def completion_logprobs(
    record: Sequence[TokenLogprob], text_of: Callable[[int], str], offset: int
) -> CompletionLogprobs:
    """Log-probabilities of tokens whose text begins at character `offset`."""
    result: CompletionLogprobs = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
    for entry in record:
        text = text_of(entry.token)
        top = {text_of(token): logprob for token, logprob in entry.top}
        result["text_offset"].append(offset)
        result["token_logprobs"].append(entry.logprob)
        result["tokens"].append(text)
        result["top_logprobs"].append({**top, text: entry.logprob})
        offset += len(text)
    return result


def chat_response(completion: CompletionResponse) -> ChatResponse:
    """A whole completion as an answer."""
    choice = completion["choices"][0]
    return {
        "id": "chat" + completion["id"],
        "object": "chat.completion",
        "created": completion["created"],
        "model": completion["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": choice["text"]},
                "logprobs": _chat_logprobs(choice["logprobs"]),
                "finish_reason": choice["finish_reason"],
            }
        ],
        "usage": completion["usage"],
    }


def chat_chunks(chunks: Iterable[CompletionResponse]) -> Iterator[ChatResponse]:
    """Chunks of a completion as chunks of an answer, after one that names the role."""
    for i, chunk in enumerate(chunks):
        choice = chunk["choices"][0]
        if i == 0:
            yield _chat_chunk(chunk, {"role": "assistant"}, None, None)
        delta: ChatDelta = {"content": choice["text"]} if choice["finish_reason"] is None else {}
        yield _chat_chunk(chunk, delta, _chat_logprobs(choice["logprobs"]), choice["finish_reason"])


def _chat_chunk(
    chunk: CompletionResponse, delta: ChatDelta, logprobs: ChatLogprobs | None, finish_reason: str | None
) -> ChatResponse:
    return {
        "id": "chat" + chunk["id"],
        "object": "chat.completion.chunk",
        "created": chunk["created"],
        "model": chunk["model"],
        "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}],
    }


def _chat_logprobs(logprobs: CompletionLogprobs | None) -> ChatLogprobs | None:
    if logprobs is None:
        return None
    content: list[ChatTokenLogprob] = []
    columns: Iterable[tuple[Any, ...]] = zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    )
    for token, logprob, top in columns:
        best: list[ChatTopLogprob] = [{"token": t, "logprob": p, "bytes": None} for t, p in top.items()]
        content.append({"token": token, "logprob": logprob, "bytes": None, "top_logprobs": best})
    return {"content": content, "refusal": None}
