"""What a model predicts of a text, in a file: what other models are compared with.

The file is llama.cpp's: 8 bytes "_logits_"; n_ctx, n_vocab, n_chunks as int32; the tokens of all chunks as
int32; then a row for each position whose prediction counts, in uint16: an f32 scale, an f32 minimum, and for
each token of the vocabulary q, whose log-probability is scale * q + minimum. Logits that are more than 16
below the largest are as if they were 16 below. An odd vocabulary has one q more, which says nothing.
Source: llama.cpp tools/perplexity/perplexity.cpp, log_softmax(), perplexity() and kl_divergence().
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.evaluate.divergence import BLOCK_ROWS
from ggufpy.evaluate.perplexity import SMALLEST_CONTEXT, scored_from

_MAGIC = b"_logits_"
_HEADER = len(_MAGIC) + 3 * 4
_DEPTH = np.float32(16)  # below the largest logit
_STEPS = np.float32(65535)
_FLOATS = 4  # uint16 in front of a row: the scale and the minimum


class BaseLogits:
    """A file of predictions that is open; `tokens`: (n_chunks, n_ctx)."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        """Read all but the rows. Raises FormatError, OSError."""
        self.path, self._stream = path, stream
        head = stream.read(_HEADER)
        if len(head) < _HEADER or not head.startswith(_MAGIC):
            raise FormatError(
                f"{path}: no base logits; --kl-divergence-base writes them, without --kl-divergence"
            )
        n_ctx, n_vocab, n_chunks = (int(number) for number in np.frombuffer(head[len(_MAGIC) :], "<i4"))
        if n_ctx < SMALLEST_CONTEXT or n_vocab < 1 or n_chunks < 1:
            raise FormatError(
                f"{path}: says {n_chunks} chunks of {n_ctx} and {n_vocab} tokens; write it anew"
            )
        self.n_ctx, self.n_vocab = n_ctx, n_vocab
        size, expected = os.fstat(stream.fileno()).st_size, base_size(n_chunks, n_ctx, n_vocab)
        if size != expected:
            raise FormatError(f"{path}: has {size:,} bytes, must have {expected:,}; write it anew")
        tokens = np.frombuffer(stream.read(4 * n_chunks * n_ctx), "<i4").reshape(n_chunks, n_ctx)
        if tokens.min() < 0 or tokens.max() >= n_vocab:
            raise FormatError(f"{path}: has tokens beyond its vocabulary of {n_vocab}; write it anew")
        self.tokens: NDArray[np.int32] = tokens
        self._rows_at = stream.tell()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[BaseLogits]:
        """Open a file. Raises FormatError, OSError."""
        with path.open("rb") as stream:
            yield cls(path, stream)

    @property
    def rows_per_chunk(self) -> int:
        """How many predictions of a chunk there are."""
        return _rows(self.n_ctx)

    def log_probabilities(self, chunk: int, start: int, stop: int) -> NDArray[np.float32]:
        """Of predictions start to stop of a chunk: (rows, n_vocab). Raises FormatError if the file shrank."""
        width = _row_width(self.n_vocab)
        self._stream.seek(self._rows_at + 2 * width * (chunk * self.rows_per_chunk + start))
        data = self._stream.read(2 * width * (stop - start))
        if len(data) != 2 * width * (stop - start):
            raise FormatError(f"{self.path}: became shorter while it was read; write it anew")
        stored = np.frombuffer(data, "<u2").reshape(stop - start, width)
        floats = stored[:, :_FLOATS].copy().view("<f4")
        rows = stored[:, _FLOATS : _FLOATS + self.n_vocab].astype(np.float32)
        if not np.isfinite(floats).all():
            raise FormatError(f"{self.path}: chunk {chunk} has scales that are no numbers; write it anew")
        rows *= floats[:, :1]
        rows += floats[:, 1:]
        return rows


class BaseWriter:
    """Writes such a file: tokens of all chunks first, then rows as they come."""

    def __init__(self, stream: BinaryIO, chunks: Sequence[Sequence[int]], n_vocab: int) -> None:
        self._stream, self._n_vocab = stream, n_vocab
        tokens = np.array(chunks, "<i4")  # (n_chunks, n_ctx)
        stream.write(_MAGIC + np.array([tokens.shape[1], n_vocab, len(tokens)], "<i4").tobytes())
        stream.write(tokens.tobytes())

    def add(self, logits: NDArray[np.float32]) -> None:
        """Write rows of logits: (rows, n_vocab)."""
        for start in range(0, len(logits), BLOCK_ROWS):
            self._stream.write(self._stored(logits[start : start + BLOCK_ROWS]).tobytes())

    def _stored(self, logits: NDArray[np.float32]) -> NDArray[np.uint16]:
        stored: NDArray[np.uint16] = np.zeros((len(logits), _row_width(self._n_vocab)), "<u2")
        highest = logits.max(axis=1, keepdims=True)
        lowest = np.maximum(logits.min(axis=1, keepdims=True), highest - _DEPTH)
        sums = np.exp(logits - highest).sum(axis=1, keepdims=True, dtype=np.float64)
        scale = (highest - lowest) / _STEPS
        floats = np.concatenate([scale, lowest - highest - np.log(sums).astype(np.float32)], axis=1)
        stored[:, :_FLOATS] = floats.astype("<f4").view("<u2")
        steps = np.float32(1) / np.where(scale > 0, scale, np.float32(1))
        stored[:, _FLOATS : _FLOATS + self._n_vocab] = np.rint((np.maximum(logits, lowest) - lowest) * steps)
        return stored


def base_size(n_chunks: int, n_ctx: int, n_vocab: int) -> int:
    """Bytes of a file of base logits."""
    return _HEADER + n_chunks * (4 * n_ctx + 2 * _rows(n_ctx) * _row_width(n_vocab))


def _rows(n_ctx: int) -> int:
    return n_ctx - 1 - scored_from(n_ctx)


def _row_width(n_vocab: int) -> int:
    """In uint16."""
    return _FLOATS + n_vocab + n_vocab % 2
