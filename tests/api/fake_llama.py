"""`Llama` on an engine of which the test knows every logit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes import IM_END, FakeEngine, FakeFile, FakeTokenizer

from ggufpy.api.llama import Llama

METADATA = {
    "general.architecture": "llama",
    "llama.embedding_length": 4,
    "tokenizer.ggml.tokens": [],
}

Make = Callable[..., tuple[Llama, FakeEngine]]


def llama_maker(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function that makes a Llama which continues texts as `follow` says."""

    def build(follow: Callable[[list[int]], int], **options: Any) -> tuple[Llama, FakeEngine]:
        engine = FakeEngine(follow)

        def load(file: object, *, n_ctx: int | None, **options: object) -> FakeEngine:
            engine.n_ctx = n_ctx or 1024
            return engine

        monkeypatch.setattr("ggufpy.gguf.reader.GGUFFile.open", lambda path, **options: FakeFile(METADATA))
        monkeypatch.setattr("ggufpy.runtime.engine.Engine.load", load)
        monkeypatch.setattr("ggufpy.api.low_level.load_tokenizer", lambda metadata: FakeTokenizer())
        return Llama("fake.gguf", **options), engine

    return build


def alphabet(tokens: list[int]) -> int:
    """The next letter; after z the end."""
    return tokens[-1] + 1 if tokens[-1] < ord("z") else IM_END


def whole(response: Any) -> dict[str, Any]:
    assert isinstance(response, dict)
    return response
