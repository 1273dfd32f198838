"""Texts become vectors, or scores: batched together, never padded, each of them whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.embedding.texts import Reader, Text
from ggufpy.errors import ContextError, GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.runtime.engine import Engine, Span, Wanted
from ggufpy.runtime.locks import ForkableLock
from ggufpy.tokenizers import Tokenizer
from ggufpy.tokenizers.check import check_vocabulary

Floats = NDArray[np.float32]

# In the order of their numbers. Source: llama.cpp llama.h, llama_pooling_type.
POOLINGS = ("none", "mean", "cls", "last", "rank")

_CONTEXTS = 4  # texts of that length that there is room for
_TEXTS = 64  # in a step, at most


class Embedder:
    """A model whose hidden states are wanted.

    reader: of its texts. pooling: what is made of the states of a text, one of POOLINGS. n_ctx: tokens of
    context; most: those that a text may have. labels: of a classifier.
    """

    def __init__(
        self,
        file: GGUFFile,
        tokenizer: Tokenizer,
        *,
        n_ctx: int | None = None,
        n_batch: int = 512,
        pooling: int | None = None,
        causal: bool | None = None,
        **options: Any,
    ) -> None:
        """Load the engine; pooling, causal: in place of what the file says.

        n_ctx, n_batch, options: those of `Engine.load`. Raises what that raises.
        """
        metadata: Mapping[str, Any] = file.metadata
        prefix = f"{metadata.get('general.architecture')}."
        trained = metadata.get(f"{prefix}context_length")
        self.n_ctx = n_ctx or (trained if isinstance(trained, int) else 0)
        room = min(self.n_ctx, n_batch) or None  # no text is longer
        changes: dict[str, Any] = {} if pooling is None else {"pooling_type": pooling}
        changes |= {} if causal is None else {"attention.causal": causal}
        self.engine = Engine.load(
            file,
            n_ctx=room,
            n_batch=n_batch,
            n_seq=_CONTEXTS,
            outputs=("embeddings",),
            changes=changes,
            **options,
        )
        check_vocabulary(file, tokenizer, self.engine)
        if room is None or self.engine.n_ctx < room:
            self.n_ctx = self.engine.n_ctx
        said = metadata.get(f"{prefix}pooling_type", 0)
        self.pooling = POOLINGS[said if pooling is None else pooling]
        self.labels: list[str] = list(metadata.get(f"{prefix}classifier.output_labels", []))
        self.most = self.engine.n_batch
        self.reader = Reader(tokenizer, metadata)
        self._file = file
        self._lock = ForkableLock()

    def close(self) -> None:
        """Let go of the weights; nothing can be embedded any more."""
        self.engine.close()

    def embed(self, texts: Sequence[Text]) -> list[Floats]:
        """Rows of each text: (tokens, width) without pooling, (1, width) with it, or (1, labels).

        Raises ContextError for a text that is too long, GgufpyError for one without tokens.
        """
        for number, text in enumerate(texts, 1):
            if not text.tokens:
                raise GgufpyError(f"text {number} of {len(texts)} has no tokens, and so no embedding")
            if len(text.tokens) > self.most:
                remedy = "shorten the text, or open the model with a larger n_batch and n_ctx"
                problem = f"Requested tokens ({len(text.tokens)}) exceed batch size of {self.most}"
                raise ContextError(f"{problem}; {remedy}")
        with self._lock:
            return [rows for group in self._groups(texts) for rows in self._step(group)]

    def _groups(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        group: list[Text] = []
        for text in texts:
            if len(group) == _TEXTS or sum(len(each.tokens) for each in [*group, text]) > self.most:
                yield group
                group = []
            group.append(text)
        if group:
            yield group

    def _step(self, texts: Sequence[Text]) -> list[Floats]:
        """The rows of texts that are computed together, or in two halves where there is no room for all."""
        wanted: Wanted = "all" if self.pooling == "none" else "last"
        sequences = [self.engine.new_sequence() for _ in texts]
        try:
            spans = [
                Span(sequence, text.tokens, logits=wanted, inputs=self._inputs(text))
                for sequence, text in zip(sequences, texts, strict=True)
            ]
            result = self.engine.step(spans)
            return [result.rows(i) for i in range(len(texts))]
        except ContextError:
            if len(texts) == 1:
                raise
        finally:
            for sequence in sequences:
                sequence.close()
        half = len(texts) // 2
        return self._step(texts[:half]) + self._step(texts[half:])

    def _inputs(self, text: Text) -> Floats | None:
        """Embeddings of a pair, where the vocabulary tells a second text apart: as if of the first type.

        The network adds the row of the first type to all tokens.
        """
        tensors, name = self._file.tensors, "token_types.weight"
        is_bert = self._file.metadata.get("tokenizer.ggml.model") == "bert"
        if text.second is None or not is_bert or name not in tensors or tensors[name].shape[0] < 2:
            return None
        types, table = tensors[name].source(), tensors["token_embd.weight"].source()
        rows = np.concatenate([_row(table, token) for token in text.tokens])
        rows[text.second :] += _row(types, 1) - _row(types, 0)
        return rows


def _row(source: TensorSource, number: int) -> Floats:
    """A row as floats, (1, width)."""
    data, row = source.read(number, number + 1), np.empty((1, source.columns), np.float32)
    buffer = ffi.from_buffer(np.ascontiguousarray(data))
    lib.gg_expand(source.type, row.size, buffer, data.nbytes, ffi.from_buffer("float[]", row))
    return row
