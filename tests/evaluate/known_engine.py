"""An engine whose logits are known, and a tokenizer of bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.runtime.engine import Span
from ggufpy.runtime.result import Result

BOS = 7


class Bytes:
    """A tokenizer with a token per byte."""

    bos_id = BOS
    n_vocab = 256

    def __init__(self, add_bos: bool = False) -> None:
        self.add_bos = add_bos

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        return [BOS] * (add_special and self.add_bos) + list(text.encode())

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        return bytes(tokens)


class Table:
    """An engine whose logits depend on the last token and its position only."""

    n_vocab = n_embeddings = 256

    def __init__(self, n_ctx: int) -> None:
        self.n_ctx = n_ctx
        random = np.random.default_rng(0)
        self._of_token: NDArray[np.float32] = random.normal(size=(256, 256)).astype(np.float32)
        self._of_position: NDArray[np.float32] = random.normal(size=(n_ctx, 256)).astype(np.float32)

    def row(self, position: int, token: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._of_token[token] + self._of_position[position]
        return row

    def new_sequence(self) -> Any:
        return Length()

    def step(self, spans: Sequence[Span]) -> Result:
        result = Result(len(spans), {"logits": self.n_vocab})
        for number, span in enumerate(spans):
            start = span.sequence.length
            assert span.tokens
            assert start + len(span.tokens) <= self.n_ctx
            rows = np.stack([self.row(start + i, token) for i, token in enumerate(span.tokens)])
            rows = rows[{"all": 0, "last": len(rows) - 1, "none": len(rows)}[span.logits] :]
            result.add("logits", [number] * len(rows), rows)
            span.sequence.length += len(span.tokens)
        return result


class Length:
    """As much of a sequence as the table needs."""

    def __init__(self, length: int = 0) -> None:
        self.length = length

    def fork(self) -> "Length":
        return Length(self.length)

    def close(self) -> None:
        pass
