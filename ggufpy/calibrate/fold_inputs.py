"""What the linears of folds read, layer by layer, and what rounding their matrices costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.folding import Fold, Scales, folds_of
from ggufpy.calibrate.scaled_values import Ids
from ggufpy.calibrate.streams import Floats, Runner
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Linear
from ggufpy.quants import decode, encode
from ggufpy.quants.choice.imatrix_file import Squares
from ggufpy.runtime.engine import trace
from ggufpy.runtime.stages import Stage, stages

_ROWS = 1024  # of a matrix, spread over it, are enough to compare scales


class Measure(Protocol):
    """What is kept of a value."""

    def add(self, rows: Floats) -> None:
        """The next rows, (tokens, *the value's shape)."""


M = TypeVar("M", bound=Measure)


def measured_layers(
    file: GGUFFile, chunks: Sequence[list[int]], n_threads: int, new: Callable[[], M]
) -> Iterator[tuple[list[Fold], dict[Value, M], int]]:
    """For each layer its folds, what was measured of the values that these linears read, and how many layers.

    The slots of experts are left out, as it is not known which row went to which expert. Raises
    UnsupportedModelError for networks whose layers do not run by themselves.
    """
    graph, outputs = trace(file)
    shapes = {name: info.shape for name, info in file.tensors.items()}
    folds = folds_of(graph.nodes, outputs.values(), shapes)
    reading = [x for fold in folds for x in fold.linears if not in_slots(x)]
    layers = stages(graph.nodes)
    for stage, found in measured(file, graph.nodes, layers, chunks, n_threads, new, reading):
        tensors = {matrix.tensor for linear in stage.linears() for matrix in linear.matrices}
        own = [fold for fold in folds if fold.linears[0].matrices[0].tensor in tensors]
        yield own, found, len(layers)


def measured(
    file: GGUFFile,
    nodes: Sequence[Node],
    layers: Sequence[Stage],
    chunks: Sequence[list[int]],
    n_threads: int,
    new: Callable[[], M],
    linears: Sequence[Linear],
) -> Iterator[tuple[Stage, dict[Value, M]]]:
    """Each layer of the nodes, and what was measured of the values that these linears of it read."""
    runner = Runner(file, chunks, n_threads)
    rows = runner.run(nodes, {"": layers[0].reads}, None)[""]
    for stage in layers:
        tensors = {matrix.tensor for linear in stage.linears() for matrix in linear.matrices}
        own = [linear for linear in linears if linear.matrices[0].tensor in tensors]
        names = {linear.x: f"inputs of {linear.matrices[0].tensor}" for linear in own}
        found, wanted = {value: new() for value in names}, {name: value for value, name in names.items()}
        left = np.empty_like(rows)
        for part, arrays in runner.each(stage.nodes, {**wanted, "left": stage.leaves}, rows):
            left[part] = arrays["left"]
            for name, value in wanted.items():
                found[value].add(arrays[name].reshape(-1, *value.shape))
        yield stage, found
        rows = left


def in_slots(linear: Linear) -> bool:
    """Whether a linear of experts reads another value in each slot."""
    return linear.route is not None and len(linear.x.shape) > 1


class Moments:
    """Sums of x x^T, (heads, n, n), of a value of one or several heads."""

    def __init__(self) -> None:
        self.sums: NDArray[np.float64] = np.zeros((1, 1, 1))

    def add(self, rows: Floats) -> None:
        """Sums in f32 of a chunk, in f64 of all."""
        heads = np.ascontiguousarray(rows.reshape(len(rows), -1, rows.shape[-1]).swapaxes(0, 1))
        self.sums = self.sums + heads.swapaxes(1, 2) @ heads


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a matrix that a fold scales, (r, n), and what is known of their inputs.

    value: what they read, of several heads this one. ids: (n,), the scales of the columns. moment: (n, n)
    sums of products, or (n,) of squares. count: how often these rows count.
    """

    weights: Floats
    value: Value
    head: int | None
    ids: Ids
    type: GGMLType
    moment: NDArray[np.float64]
    count: float

    def squares(self) -> NDArray[np.float64]:
        """Sums of squares of what the columns read: (n,)."""
        return self.moment if self.moment.ndim == 1 else np.diagonal(self.moment)

    def factors(self, scales: Scales) -> Floats:
        """What the columns are multiplied with: (n,)."""
        factors: Floats = np.where(self.ids < 0, np.float32(1), scales[np.maximum(self.ids, 0)])
        return factors

    def rounded(self, scales: Scales) -> Floats:
        """The scaled rows as the type has them, by the importance of the scaled inputs."""
        factors = self.factors(scales)
        importance = (self.squares() / factors.astype(np.float64) ** 2).astype(np.float32)
        x = np.ascontiguousarray(self.weights * factors)
        return decode(encode(x, self.type, importance), self.type)

    def cost(self, scales: Scales) -> float:
        """tr(E H E^T), E what rounding changes."""
        return self._form(self.rounded(scales) / self.factors(scales) - self.weights)

    def size(self) -> float:
        """tr(W H W^T)."""
        return self._form(self.weights)

    def _form(self, rows: Floats) -> float:
        product = rows * self.moment if self.moment.ndim == 1 else rows @ self.moment
        return self.count * float((product * rows).sum())


def mean_error(
    file: GGUFFile,
    types: Mapping[str, GGMLType],
    chunks: Sequence[list[int]],
    squares: Mapping[str, Squares],
    *,
    n_threads: int,
    on_layer: Callable[[int, int], None],
) -> float:
    """Of the outputs of linears that folds are for, rounded as they are: relative, squared, on average.

    Arguments are those of `awq`; raises as `measured_layers`.
    """
    errors: list[float] = []
    for done, (folds, moments, count) in enumerate(measured_layers(file, chunks, n_threads, Moments), 1):
        for fold in folds:
            ones = np.ones(fold.size, np.float32)
            for part in parts_of(fold, file, types, moments, squares):
                errors.append(part.cost(ones) / max(part.size(), 1e-300))
        on_layer(done, count)
    return float(np.mean(errors)) if errors else 0.0


def parts_of(
    fold: Fold,
    file: GGUFFile,
    types: Mapping[str, GGMLType],
    moments: Mapping[Value, Moments],
    squares: Mapping[str, Squares],
) -> Iterator[Part]:
    """Of the matrices of a fold that get another type; experts that no token has reached are left out.

    squares: of what linears read, for experts.
    """
    for linear in fold.linears:
        for name in (matrix.tensor for matrix in linear.matrices if matrix.tensor in types):
            source = file.tensors[name].source()
            *count, rows, columns = source.shape
            matrices = count[0] if count else 1
            ids = np.broadcast_to(fold.columns(name), (*source.shape[:-2], 1, columns)).reshape(-1, columns)
            step = -(-rows * matrices // _ROWS)
            for index in range(matrices):
                moment = _moment(linear, name, index, moments, squares)
                if moment is None or not moment.any():
                    continue
                data = source.read(index * rows, (index + 1) * rows)[::step]
                yield Part(
                    decode(np.ascontiguousarray(data), source.type),
                    linear.x,
                    index if linear.per_head else None,
                    ids[index],
                    types[name],
                    moment,
                    rows / len(data),
                )


def cheapest(
    trials: Sequence[Scales],
    parts: Sequence[Part],
    cost: Callable[[Part, Scales], float],
    pool: ThreadPoolExecutor,
) -> int:
    """The number of the scales that cost least in all parts; what is not finite costs more than all else."""
    pairs = [(part, scales) for scales in trials for part in parts]
    costs = np.array(list(pool.map(lambda pair: cost(*pair), pairs))).reshape(len(trials), len(parts))
    return int(np.nan_to_num(costs.sum(axis=1), nan=np.inf).argmin())


def normalized(scales: NDArray[np.float64]) -> Scales:
    """With a geometric mean of 1."""
    normal: Scales = (scales / np.exp(np.log(scales).mean())).astype(np.float32)
    return normal


def _moment(
    linear: Linear,
    name: str,
    index: int,
    moments: Mapping[Value, Moments],
    squares: Mapping[str, Squares],
) -> NDArray[np.float64] | None:
    """Of what a matrix reads; experts that read the same value have its moments by their shares of it."""
    share = 1.0
    if linear.route is not None:
        if name not in squares:
            return None
        if in_slots(linear):
            return np.array(squares[name].sums[index], np.float64)
        counts = squares[name].counts
        share = float(counts[index] / max(counts.sum(), 1))
    return np.array(share * moments[linear.x].sums[index if linear.per_head else 0])
