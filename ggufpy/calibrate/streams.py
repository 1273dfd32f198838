"""The residual stream of a network, for all tokens of some chunks: what its layers read and leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Node, Value
from ggufpy.runtime.engine import Engine, Span
from ggufpy.runtime.passes import UNSELECTIVE
from ggufpy.runtime.plan import make_plan

Floats = NDArray[np.float32]


class Runner:
    """Runs nodes of a network over chunks of one length, each from an empty context, in f32."""

    def __init__(self, file: GGUFFile, chunks: Sequence[list[int]], n_threads: int) -> None:
        self._file, self._chunks, self._n_threads = file, chunks, n_threads

    def run(
        self,
        nodes: Sequence[Node],
        wanted: Mapping[str, Value],
        rows: Floats | None,
        tensors: Mapping[str, TensorInfo] | None = None,
    ) -> dict[str, Floats]:
        """The values wanted, each (tokens, width), of all chunks together; arguments are those of `each`."""
        tokens = sum(map(len, self._chunks))
        found = {name: np.empty((tokens, value.width), np.float32) for name, value in wanted.items()}
        for part, values in self.each(nodes, wanted, rows, tensors):
            for name, array in values.items():
                found[name][part] = array
        return found

    def each(
        self,
        nodes: Sequence[Node],
        wanted: Mapping[str, Value],
        rows: Floats | None,
        tensors: Mapping[str, TensorInfo] | None = None,
    ) -> Iterator[tuple[slice, dict[str, Floats]]]:
        """Chunk by chunk: which tokens these are of all, and the values wanted, each (tokens, width).

        rows: what the first node gives, (tokens, width); None for the embeddings of the chunks' tokens.
        tensors: where they are not the file's.
        """
        size = len(self._chunks[0])
        engine = Engine(
            self._file,
            make_plan(nodes, wanted, UNSELECTIVE),
            n_ctx=size,
            n_seq=1,
            n_threads=self._n_threads,
            n_batch=size,
            precision="exact",
            cache_types=(GGMLType.F32, GGMLType.F32),
            tensors=tensors,
        )
        for number, chunk in enumerate(self._chunks):
            part = slice(number * size, (number + 1) * size)
            given = None if rows is None else rows[part]
            sequence = engine.new_sequence()
            result = engine.step([Span(sequence, chunk, logits="all", inputs=given)])
            yield part, {name: result.rows(0, name) for name in wanted}
            sequence.close()
        engine.close()
