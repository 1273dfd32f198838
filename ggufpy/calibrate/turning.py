"""A model whose residual stream is turned so that its weights are easier to round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.folded_file import Changed, rewritten
from ggufpy.calibrate.rotation import Matrix, learned
from ggufpy.calibrate.stream_turns import Turns, turns_of
from ggufpy.calibrate.streams import Floats
from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode
from ggufpy.runtime.engine import trace

_BLOCK = 32
_ROWS = 1 << 13  # of all readers, and columns of all writers, are enough to learn from


def turned(
    source: Path,
    types: Mapping[str, GGMLType],
    path: Path,
    on_step: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the model with its stream turned for blocks of `types`; returns `path`. What changes becomes f32.

    Its embeddings are turned, too; its logits stay. Raises UnsupportedModelError, which says why, where the
    stream cannot be turned, or nothing that reads it gets blocks.
    """
    with GGUFFile.open(source) as file:
        graph, outputs = trace(file)
        try:
            turns = turns_of(
                graph.nodes, outputs["logits"], {name: info.shape for name, info in file.tensors.items()}
            )
            readers, writers = _samples(file, turns, types)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{source}: {error}") from None
        rotation = learned(readers, writers, on_step)
        return rewritten(source, _changes(file, turns, rotation), path)


def _samples(file: GGUFFile, turns: Turns, types: Mapping[str, GGMLType]) -> tuple[Matrix, Matrix]:
    """Rows of what reads the stream, columns of what writes to it; each matrix with a mean square of 1."""
    reading = [name for name, gain in turns.columns.items() if name in types and gain]
    writing = [name for name in turns.rows if name in types]
    if not reading or not writing or turns.width % _BLOCK:
        raise UnsupportedModelError("no matrices that read and write the residual stream become blocks")
    most_rows = max(1, _ROWS // len(reading))
    most_blocks = max(1, _ROWS // _BLOCK // len(writing))
    readers, writers = [], []
    for name in reading:
        source = file.tensors[name].source()
        step = -(-source.rows // most_rows)
        rows = decode(np.ascontiguousarray(source.read(0, source.rows)[::step]), source.type)
        readers.append(_even(rows * _gain(file, turns.columns[name])))
    for name in sorted(writing):
        matrix = _matrix(file.tensors[name], 0)
        blocks = matrix.reshape(turns.width, -1, _BLOCK)
        writers.append(_even(blocks[:, :: -(-blocks.shape[1] // most_blocks)].reshape(turns.width, -1)))
    return np.concatenate(readers), np.concatenate(writers, axis=1)


def _even(x: Floats) -> Matrix:
    """With a mean square of 1."""
    return np.array(x / max(float(np.sqrt(np.square(x, dtype=np.float64).mean())), 1e-30), np.float32)


def _gain(file: GGUFFile, name: str | None) -> Floats:
    if name is None:
        return np.ones(1, np.float32)
    source = file.tensors[name].source()
    return decode(source.read(0, source.rows), source.type).reshape(-1)


def _matrix(info: TensorInfo, index: int) -> Floats:
    """A matrix, or one of several: (n, m)."""
    source, rows = info.source(), info.shape[-2]
    return decode(source.read(index * rows, (index + 1) * rows), source.type)


def _changes(file: GGUFFile, turns: Turns, rotation: Matrix) -> dict[str, Changed]:
    """How each tensor changes."""

    def changed(name: str) -> Changed:
        gain = turns.columns.get(name)

        def change(source: TensorSource) -> TensorSource:
            if name in turns.gains:
                return _mapped(source, lambda x: np.ones_like(x, np.float32))
            if name in turns.rows:
                source = _with_rows(source, rotation)
            if name in turns.biases or (name in turns.columns and gain is None):
                return _mapped(source, lambda x: x @ rotation)
            if name in turns.columns:
                factors = _gain(file, gain)
                return _mapped(source, lambda x: np.multiply(x, factors) @ rotation)
            return source

        return change

    return {name: changed(name) for name in turns.tensors()}


def _mapped(source: TensorSource, function: Callable[[Floats], Floats]) -> TensorSource:
    """function(rows), of a tensor of any type, as f32."""

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        values = function(decode(source.read(start, stop), source.type))
        return np.ascontiguousarray(values, "<f4").view(np.uint8)

    return replace(source, type=GGMLType.F32, read=read)


def _with_rows(source: TensorSource, rotation: Matrix) -> TensorSource:
    """R^T W of each of its matrices."""
    rows = source.shape[-2]

    @lru_cache(1)
    def matrix(index: int) -> NDArray[np.uint8]:
        whole = decode(source.read(index * rows, (index + 1) * rows), source.type)
        return np.ascontiguousarray(rotation.T @ whole, "<f4").view(np.uint8)

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        parts = [matrix(index) for index in range(start // rows, -(-stop // rows))]
        return np.concatenate(parts)[start - start // rows * rows :][: stop - start]

    return replace(source, type=GGMLType.F32, read=read)
