"""Biases that make up for what rounding takes off a matrix' outputs on average: (W - W^) E[x]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.fold_inputs import measured
from ggufpy.calibrate.folding import Places
from ggufpy.calibrate.llama_biases import TAKEN
from ggufpy.calibrate.streams import Floats
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.sources import constant
from ggufpy.graph.nodes import Linear
from ggufpy.quants import decode
from ggufpy.quants.choice.planning import Planned, kept
from ggufpy.quants.file import QuantizationPlan
from ggufpy.runtime.engine import trace
from ggufpy.runtime.stages import stages

_ROWS = 1024  # decoded at a time


class Mean:
    """Of the rows of a value."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] = np.zeros(1)
        self._count = 0

    def add(self, rows: Floats) -> None:
        """The next rows."""
        self._sum = self._sum + rows.sum(axis=0, dtype=np.float64)
        self._count += len(rows)

    def value(self) -> NDArray[np.float64]:
        """So far."""
        return self._sum / max(self._count, 1)


def with_biases(
    plan: QuantizationPlan,
    file: GGUFFile,
    chunks: Sequence[list[int]],
    *,
    n_threads: int,
    on_layer: Callable[[int, int], None] | None = None,
) -> QuantizationPlan:
    """The plan of `file` with other biases, and with new ones where llama.cpp's loader takes them.

    For linears of one matrix that gets blocks; experts have none. chunks: contexts of tokens, all of one
    length. on_layer is told how many layers are done, and of how many. Raises UnsupportedModelError for
    networks whose layers do not run by themselves.
    """
    graph, _ = trace(file)
    places = Places(graph.nodes, {name: info.shape for name, info in file.tensors.items()})
    rounded = {each.tensor.name: each for each in plan.planned if _is_rounded(each)}
    taken = TAKEN.get(str(file.metadata.get("general.architecture")), frozenset())
    biases = {
        linear: bias
        for linear in graph.nodes
        if isinstance(linear, Linear) and (bias := _bias(linear, file, rounded, places, taken))
    }
    layers, found = stages(graph.nodes), dict[str, Planned]()
    runs = measured(file, graph.nodes, layers, chunks, n_threads, Mean, list(biases))
    for done, (_, means) in enumerate(runs, 1):
        for linear, bias in biases.items():
            if linear.x in means:
                lost = _lost(rounded[linear.matrices[0].tensor], means[linear.x].value())
                found[bias] = kept(constant(bias, _values(file, bias) + lost))
        if on_layer is not None:
            on_layer(done, len(layers))
    return _placed(plan, found)


def _is_rounded(each: Planned) -> bool:
    return each.tensor.type is not each.source.type and each.tensor.type.block_size > 1


def _bias(
    linear: Linear, file: GGUFFile, rounded: Mapping[str, Planned], places: Places, taken: frozenset[str]
) -> str | None:
    """The bias that a linear has, or may have."""
    if linear.route is not None or linear.per_head or len(linear.matrices) != 1:
        return None
    (matrix,) = linear.matrices
    stem = matrix.tensor.removesuffix(".weight")
    if matrix.tensor not in rounded or f"{stem}.scale" in file.tensors:
        return None
    if matrix.bias is not None:
        return matrix.bias if places.are_own(matrix.bias) else None
    return f"{stem}.bias" if stem.split(".")[-1] in taken and places.are_own(matrix.tensor) else None


def _lost(each: Planned, mean: NDArray[np.float64]) -> Floats:
    """(W - W^) mean: (outputs,)."""
    lost = np.empty(each.tensor.rows, np.float32)
    for start in range(0, len(lost), _ROWS):
        stop = min(start + _ROWS, len(lost))
        before, after = (decode(x.read(start, stop), x.type) for x in (each.source, each.tensor))
        lost[start:stop] = (before - after) @ mean
    return lost


def _values(file: GGUFFile, bias: str) -> Floats:
    """Of a bias, if it is there."""
    if bias not in file.tensors:
        return np.zeros(1, np.float32)
    source = file.tensors[bias].source()
    return decode(source.read(0, source.rows), source.type).reshape(-1)


def _placed(plan: QuantizationPlan, found: Mapping[str, Planned]) -> QuantizationPlan:
    """With these biases in the place of old ones, and new ones at the end."""
    planned = [found.get(each.tensor.name, each) for each in plan.planned]
    new = [each for name, each in found.items() if name not in {old.tensor.name for old in planned}]
    shards = plan.shards and [*plan.shards[:-1], plan.shards[-1] + len(new)]
    return replace(plan, planned=[*planned, *new], shards=shards)
