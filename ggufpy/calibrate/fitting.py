"""Layer by layer, matrices are rounded so that the outputs of the network change least.

Two streams of the same tokens go through the layers: x of the float model, and y of the one that is being
quantized. A matrix W that reads X in the one and Y in the other shall make W X of Y. So what is rounded is
the least-squares solution  T = (W C + D) (H + a)^-1  with the means H of y y^T, C of x y^T and, where its
outputs are added to a value of the stream, D of (x - y) y^T of that: what was lost before. a is a share of
H's mean diagonal. Without `propagate` y is x, so T is W.
"""

from __future__ import annotations

import tempfile
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.streams import Floats, Runner
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.writer import write_gguf
from ggufpy.graph import Value
from ggufpy.quants import check_range, decode, encode
from ggufpy.quants.descent import descend
from ggufpy.quants.feedback import damped, round_with_feedback, upper
from ggufpy.quants.grids import GRIDS
from ggufpy.runtime.engine import trace
from ggufpy.runtime.passes import residuals
from ggufpy.runtime.stages import Stage, stages

Moment = NDArray[np.float64]

_DAMPING = 0.01
_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Group:
    """Linears that read the same value; added: what their outputs are added to, if they are."""

    reads: Value
    added: Value | None
    tensors: tuple[str, ...]

    def values(self, number: int) -> dict[str, Value]:
        """What is needed of a run, under names that are this group's own."""
        reads = {f"{number} reads": self.reads}
        return reads if self.added is None else {**reads, f"{number} added": self.added}


def groups_of(stage: Stage, types: Mapping[str, GGMLType]) -> list[Group]:
    """The linears of a layer whose tensors are to be rounded, in the order in which they run."""
    found: dict[tuple[Value, Value | None], list[str]] = {}
    for linear in stage.linears():
        is_plain = linear.route is None and not linear.per_head and len(linear.matrices) == 1
        if is_plain and types.get(linear.matrices[0].tensor) in GRIDS:
            found.setdefault((linear.x, linear.add), []).append(linear.matrices[0].tensor)
    return [Group(reads, added, tuple(tensors)) for (reads, added), tensors in found.items()]


@contextmanager
def fitted(
    file: GGUFFile,
    types: Mapping[str, GGMLType],
    chunks: Sequence[list[int]],
    *,
    propagate: bool,
    n_threads: int,
    on_layer: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, TensorSource]]:
    """The tensors of layers that could be rounded to `types`, until the end of the block.

    chunks: contexts of tokens, all of one length. propagate: as above. on_layer is told how many layers are
    done, and of how many. What is neither a linear of one matrix nor of a type in GRIDS is left out.
    Raises UnsupportedModelError for networks whose layers do not run by themselves, GgufpyError for texts
    that say too little.
    """
    with tempfile.TemporaryDirectory() as folder:
        fit = _Fit(file, types, Runner(file, chunks, n_threads), Path(folder), propagate, n_threads)
        yield fit.run(on_layer)


class _Fit:
    """The two streams on their way through the layers."""

    def __init__(
        self,
        file: GGUFFile,
        types: Mapping[str, GGMLType],
        runner: Runner,
        folder: Path,
        propagate: bool,
        n_threads: int,
    ) -> None:
        self._file, self._types, self._runner = file, types, runner
        self._folder, self._propagate, self._n_threads = folder, propagate, n_threads
        self._made: dict[str, TensorInfo] = {}

    def run(self, on_layer: Callable[[int, int], None] | None) -> dict[str, TensorSource]:
        graph, outputs = trace(self._file)
        nodes = residuals(graph.nodes, list(outputs.values()))
        layers = stages(nodes)
        x = self._runner.run(nodes, {"x": layers[0].reads}, None)["x"]
        y = x
        for done, stage in enumerate(layers, 1):
            x, y = self._layer(stage, x, y)
            if on_layer is not None:
                on_layer(done, len(layers))
        return {name: tensor.source() for name, tensor in self._made.items()}

    def _layer(self, stage: Stage, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Round a layer's matrices; what it leaves in both streams."""
        groups = groups_of(stage, self._types)
        wanted = {"out": stage.leaves}
        for number, group in enumerate(groups):
            wanted |= group.values(number)
        plain = self._runner.run(stage.nodes, wanted, x)
        for number, group in enumerate(groups):
            own = plain
            if self._propagate:
                own = self._runner.run(stage.nodes, group.values(number), y, self._tensors())
            self._round(group, number, plain, own)
        if self._propagate:
            y = self._runner.run(stage.nodes, {"out": stage.leaves}, y, self._tensors())["out"]
        return plain["out"], y

    def _round(
        self, group: Group, number: int, plain: Mapping[str, Floats], own: Mapping[str, Floats]
    ) -> None:
        """Round matrices that read the same: in the float model `plain`, in the quantized one `own`."""
        reads, added = f"{number} reads", f"{number} added"
        moment = _mean(own[reads], own[reads])
        solid = damped(moment, _DAMPING)
        triangle = upper(solid).astype(np.float32)
        importance = np.ascontiguousarray(np.diagonal(moment), np.float32)
        crossed = lost = None
        if self._propagate:
            crossed = _mean(plain[reads], own[reads]) + (solid - moment)
            lost = None if group.added is None else _mean(plain[added] - own[added], own[reads])
        made = []
        for name in group.tensors:
            goal = self._weights(name)
            if crossed is not None:
                aim = goal @ crossed if lost is None else goal @ crossed + lost
                goal = np.ascontiguousarray(np.linalg.solve(solid, aim.T).T, np.float32)
            grid = GRIDS[self._types[name]]
            parts = grid.parts(_encoded(name, goal, grid.type, importance))
            round_with_feedback(goal, triangle, grid, parts, self._n_threads)
            descend(goal, solid, grid, parts, self._n_threads)
            made.append(_source(name, grid.type, goal.shape, grid.data(parts)))
        self._keep(made)

    def _weights(self, name: str) -> Floats:
        source = self._file.tensors[name].source()
        return decode(source.read(0, source.rows), source.type).reshape(source.shape)

    def _keep(self, made: Sequence[TensorSource]) -> None:
        """On the disk, as the rounded model is read from there."""
        path = self._folder / f"{len(self._made)}.gguf"
        write_gguf(path, {"general.architecture": "none"}, made)
        self._made |= GGUFFile.open(path).tensors

    def _tensors(self) -> Mapping[str, TensorInfo]:
        return ChainMap(self._made, dict(self._file.tensors))


def _encoded(name: str, goal: Floats, type: GGMLType, importance: Floats) -> NDArray[np.uint8]:
    try:
        check_range(goal, type)
        return encode(goal, type, importance)
    except FormatError as error:
        raise FormatError(f"tensor {quoted(name)}: {error}") from error


def _mean(a: Floats, b: Floats) -> Moment:
    """The mean of a b^T over tokens, in f64: sums of some rows in f32 at a time."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for first in range(0, len(a), _ROWS):
        total += a[first : first + _ROWS].T @ b[first : first + _ROWS]
    return total / len(a)


def _source(name: str, type: GGMLType, shape: tuple[int, ...], data: NDArray[np.uint8]) -> TensorSource:
    return TensorSource(name, shape, type, lambda start, stop: data[start:stop])
