"""What is hard to quantize of a network: the spread of its weights, and of what its linears read of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ggufpy.calibrate.streams import Runner
from ggufpy.calibrate.tally import Floats, Spread, Tally
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Linear
from ggufpy.quants import decode
from ggufpy.runtime.engine import trace
from ggufpy.runtime.stages import stages

_SLAB = 1 << 22  # weights that are decoded at a time
_LEAST = 32  # columns: below that is no block

OnDone = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Observed:
    """Numbers of a network. tensors: the matrix itself, or those that read these numbers."""

    tensors: tuple[str, ...]
    spread: Spread


def weights_of(file: GGUFFile, on_done: OnDone) -> list[Observed]:
    """Of each matrix, of experts as one; on_done is told how many are done, and of how many.

    Raises FormatError for tensors that cannot be decoded, and for NaN and Inf.
    """
    matrices = [each for each in file.tensors.values() if len(each.shape) > 1 and each.shape[-1] >= _LEAST]
    found = []
    for done, tensor in enumerate(matrices, 1):
        spread = _weights(tensor)
        if spread is not None:
            found.append(Observed((tensor.name,), spread))
        on_done(done, len(matrices))
    return found


def _weights(tensor: TensorInfo) -> Spread | None:
    source, tally = tensor.source(), Tally(tensor.shape[-1])
    step = max(1, _SLAB // source.columns)
    for start in range(0, source.rows, step):
        x = decode(source.read(start, min(start + step, source.rows)), source.type)
        try:
            tally.add(x.reshape(-1, source.columns))
        except FormatError as error:
            problem = f"tensor {quoted(tensor.name)} {error}"
            raise FormatError(f"{problem}; get or convert the model again") from None
    return tally.spread()


def activations_of(
    file: GGUFFile, chunks: Sequence[list[int]], n_threads: int, on_done: OnDone
) -> list[Observed]:
    """Of what the linears of layers read of chunks of one length, all experts' as one.

    A layer runs at a time, and what it reads is kept of a chunk; where layers hang together, the network runs
    as one. on_done: as above, of parts of the network. Raises GgufpyError for NaN and Inf.
    """
    runner = Runner(file, chunks, n_threads)
    nodes = trace(file)[0].nodes
    try:
        layers = stages(nodes)
    except UnsupportedModelError:
        whole, _ = _observe(runner, nodes, None, None)
        on_done(1, 1)
        return whole
    found: list[Observed] = []
    rows: Floats | None = runner.run(nodes, {"x": layers[0].reads}, None)["x"]
    for done, stage in enumerate(layers, 1):
        observed, rows = _observe(runner, stage.nodes, stage.leaves, rows)
        found += observed
        on_done(done, len(layers))
    return found


def _observe(
    runner: Runner, nodes: Sequence[Node], leaves: Value | None, rows: Floats | None
) -> tuple[list[Observed], Floats | None]:
    """What the linears of some nodes read, and what these leave, where that is wanted."""
    readers = _readers(nodes)
    tallies = {value: Tally(value.shape[-1]) for value in readers}
    wanted = {f"inputs of {tensors[0]}": value for value, tensors in readers.items()}
    if leaves is not None:
        wanted["leaves"] = leaves
    left = None if rows is None else np.empty_like(rows)
    for part, values in runner.each(nodes, wanted, rows):
        for value, tensors in readers.items():
            tallies[value].add(values[f"inputs of {tensors[0]}"].reshape(-1, value.shape[-1]))
        if left is not None:
            left[part] = values["leaves"]
    spreads = ((tensors, tallies[value].spread()) for value, tensors in readers.items())
    return [Observed(tensors, spread) for tensors, spread in spreads if spread is not None], left


def _readers(nodes: Sequence[Node]) -> dict[Value, tuple[str, ...]]:
    """The values that matrices of layers read, and which these are."""
    found: dict[Value, tuple[str, ...]] = {}
    for node in nodes:
        if isinstance(node, Linear):
            names = (matrix.tensor for matrix in node.matrices if matrix.tensor.startswith("blk."))
            found[node.x] = (*found.get(node.x, ()), *names)
    return {value: names for value, names in found.items() if names}
