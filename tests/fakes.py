"""An engine without a model: what stands on top of the engine is tested with exact control of the tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import ContextError
from ggufpy.runtime.engine import Engine, Span
from ggufpy.runtime.result import Result
from ggufpy.tokenizers import Tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ENDOFTEXT, IM_START, IM_END = range(256, 259)


class FakeTokenizer:
    """A token per byte, and ChatML's special tokens."""

    n_vocab = 259
    bos_id: int | None = ENDOFTEXT
    eos_id: int | None = IM_END
    eog_ids = frozenset({ENDOFTEXT, IM_END})
    add_bos = False
    add_eos = False

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        tokens = [ENDOFTEXT] if add_special and self.add_bos else []
        pieces = re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text) if parse_special else [text]
        for piece in pieces:
            special = parse_special and piece in SPECIAL
            tokens += [256 + SPECIAL.index(piece)] if special else list(piece.encode())
        return tokens

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        if token < 256:
            return bytes([token])
        return SPECIAL[token - 256].encode() if special else b""

    def decode(self, tokens: Iterable[int], *, special: bool = False) -> bytes:
        return b"".join(self.token_bytes(token, special=special) for token in tokens)


class FakeFile:
    """As much of a model file as opening a model looks at."""

    path = Path("fake.gguf")

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata

    def __enter__(self) -> FakeFile:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def close(self) -> None:
        pass


class FakeSequence:
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.closed = False

    @property
    def length(self) -> int:
        return len(self.tokens)

    def rewind(self, length: int) -> int:
        del self.tokens[length:]
        return length

    def fork(self) -> FakeSequence:
        copy = FakeSequence()
        copy.tokens = list(self.tokens)
        return copy

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """Continues each sequence with the token that `follow` gives for it; logits are `height` there, else 0.

    evaluated: the tokens of each span, with whether they were generated.
    """

    n_vocab = n_embeddings = FakeTokenizer.n_vocab
    n_embd = 4
    n_threads = 1
    one_regime = False

    def __init__(self, follow: Callable[[list[int]], int], n_ctx: int = 512) -> None:
        self.follow = follow
        self.n_ctx = n_ctx
        self.height = 40.0
        self.evaluated: list[tuple[list[int], bool]] = []

    def new_sequence(self) -> FakeSequence:
        return FakeSequence()

    def close(self) -> None:
        pass

    def step(self, spans: Sequence[Span]) -> Result:
        result = Result(len(spans), {"logits": self.n_vocab})
        for number, span in enumerate(spans):
            rows = self._append(cast(FakeSequence, span.sequence), list(span.tokens), span)
            result.add("logits", [number] * len(rows), rows)
        return result

    def _append(self, sequence: FakeSequence, tokens: list[int], span: Span) -> NDArray[np.float32]:
        if len(sequence.tokens) + len(tokens) > self.n_ctx:
            raise ContextError("the context is full")
        if not all(0 <= token < self.n_vocab for token in tokens):
            raise ValueError(f"token {tokens} is not in the vocabulary")
        self.evaluated.append((tokens, span.generating))
        start = len(sequence.tokens)
        sequence.tokens += tokens
        wanted = range(start, sequence.length) if span.logits == "all" else [sequence.length - 1]
        rows = np.zeros((len(wanted), self.n_vocab), np.float32)
        for row, position in zip(rows, wanted, strict=True):
            row[self.follow(sequence.tokens[: position + 1])] = self.height
        return rows


def says(answers: Callable[[str], str | bytes]) -> Callable[[list[int]], int]:
    """A `follow` that answers the last message of a ChatML prompt, then ends the text."""

    def follow(tokens: list[int]) -> int:
        text = FakeTokenizer().decode(tokens, special=True)
        prompt, _, begun = text.rpartition(b"<|im_start|>assistant\n")
        question = prompt.rpartition(b"<|im_start|>user\n")[2].partition(b"<|im_end|>")[0]
        answer = answers(question.decode())
        answer = answer.encode() if isinstance(answer, str) else answer
        return answer[len(begun)] if len(begun) < len(answer) else IM_END

    return follow


def as_engine(engine: FakeEngine) -> Engine:
    return cast(Engine, engine)


def as_tokenizer(tokenizer: FakeTokenizer) -> Tokenizer:
    return cast(Tokenizer, tokenizer)


def collect(pieces: Iterable[Any]) -> str:
    return "".join(pieces)
