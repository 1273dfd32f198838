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

from ggufpy.calibrate.gradients import Gradients
from ggufpy.calibrate.recipe import Recipe
from ggufpy.calibrate.streams import Floats, Runner
from ggufpy.calibrate.sums import Sums
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.writer import write_gguf
from ggufpy.graph import Value
from ggufpy.quants import check_range, decode, encode
from ggufpy.quants.descent import descend
from ggufpy.quants.feedback import round_with_feedback
from ggufpy.quants.grids import GRIDS
from ggufpy.quants.moment import Moment
from ggufpy.quants.two_sided import round_two_sided
from ggufpy.runtime.engine import trace
from ggufpy.runtime.passes import residuals
from ggufpy.runtime.stages import Stage, stages

OnLayer = Callable[[int, int], None]

_DAMPING = 0.01


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


class Fitting:
    """Rounds the matrices of a network's layers to given types, by what it computes of some chunks."""

    def __init__(
        self, file: GGUFFile, types: Mapping[str, GGMLType], chunks: Sequence[list[int]], n_threads: int
    ) -> None:
        """Raises UnsupportedModelError for networks whose layers do not run by themselves.

        types: of the tensors that are to be rounded. chunks: contexts of tokens, all of one length.
        """
        graph, outputs = trace(file)
        self._nodes = residuals(graph.nodes, list(outputs.values()))
        self.layers = stages(self._nodes)
        self.file, self.types, self.chunks = file, types, chunks
        self.n_threads, self.runner = n_threads, Runner(file, chunks, n_threads)

    def start(self) -> Floats:
        """What the first layer reads: (tokens, width)."""
        return self.runner.run(self._nodes, {"x": self.layers[0].reads}, None)["x"]

    def round(
        self, recipe: Recipe, gradients: Gradients | None, folder: Path, on_layer: OnLayer | None = None
    ) -> dict[str, TensorInfo]:
        """The tensors that could be rounded, in files of `folder`, which must stay.

        gradients: where the recipe needs them. on_layer is told how many layers are done, and of how many.
        What is neither a linear of one matrix nor of a type in GRIDS is left out. Raises GgufpyError for
        texts that say too little.
        """
        run = _Run(self, recipe, gradients, folder)
        x = y = self.start()
        for done, stage in enumerate(self.layers, 1):
            x, y = run.layer(stage, x, y)
            if on_layer is not None:
                on_layer(done, len(self.layers))
        return run.made


@contextmanager
def fitted(
    file: GGUFFile,
    types: Mapping[str, GGMLType],
    chunks: Sequence[list[int]],
    recipe: Recipe,
    *,
    n_threads: int,
    on_layer: OnLayer | None = None,
) -> Iterator[dict[str, TensorSource]]:
    """The tensors of layers rounded by one recipe that needs no gradients, until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        made = Fitting(file, types, chunks, n_threads).round(recipe, None, Path(folder), on_layer)
        yield {name: tensor.source() for name, tensor in made.items()}


class _Run:
    """One recipe on its way through the layers."""

    def __init__(self, fitting: Fitting, recipe: Recipe, gradients: Gradients | None, folder: Path) -> None:
        self._fitting, self._recipe, self._gradients, self._folder = fitting, recipe, gradients, folder
        self._first = _first_tokens(fitting.chunks, recipe.first) if recipe.first > 1 else None
        self.made: dict[str, TensorInfo] = {}

    def layer(self, stage: Stage, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Round a layer's matrices; what it leaves in both streams."""
        groups, runner = groups_of(stage, self._fitting.types), self._fitting.runner
        if not self._recipe.propagate:
            left = np.empty_like(x)
            for group, sums in zip(groups, self._sums(stage, groups, x, None, left), strict=True):
                self._round(group, sums)
            return left, left
        for group in groups:
            self._round(group, self._sums(stage, [group], x, y, None)[0])
        left = runner.run(stage.nodes, {"out": stage.leaves}, x)["out"]
        return left, runner.run(stage.nodes, {"out": stage.leaves}, y, self._tensors())["out"]

    def _sums(
        self, stage: Stage, groups: Sequence[Group], x: Floats, y: Floats | None, left: Floats | None
    ) -> list[list[tuple[list[str], Sums]]]:
        """For each group its tensors, those together whose tokens count alike; `left` is filled."""
        wanted = {} if left is None else {"out": stage.leaves}
        for number, group in enumerate(groups):
            wanted |= group.values(number)
        runner = self._fitting.runner
        found = [self._empty(group) for group in groups]
        for part, values, own in _both(runner, stage, wanted, x, y, self._tensors()):
            for number, sets in enumerate(found):
                _add(sets, number, part, values, own)
            if left is not None:
                left[part] = values["out"]
        return [[(names, sums) for names, sums, _ in sets] for sets in found]

    def _empty(self, group: Group) -> list[tuple[list[str], Sums, Floats | None]]:
        sets: dict[int, tuple[list[str], Sums, Floats | None]] = {}
        lost = group.added.width if group.added is not None and self._recipe.propagate else None
        for name in group.tensors:
            weights = self._weights_of_tokens(name)
            if id(weights) not in sets:
                sums = Sums(group.reads.width, crossed=self._recipe.propagate, lost=lost)
                sets[id(weights)] = ([], sums, weights)
            sets[id(weights)][0].append(name)
        return list(sets.values())

    def _weights_of_tokens(self, name: str) -> Floats | None:
        if self._recipe.guided and self._gradients is not None:
            return self._gradients.weights(name)
        return self._first

    def _round(self, group: Group, sets: Sequence[tuple[list[str], Sums]]) -> None:
        """Round matrices that read the same."""
        made = []
        for names, sums in sets:
            moment = Moment(sums.h, _DAMPING)
            for name in names:
                goal = _goal(self._weights(name), sums, moment)
                made.append(self._rounded(name, goal, moment))
        self._keep(made)

    def _rounded(self, name: str, goal: Floats, moment: Moment) -> TensorSource:
        grid, threads = GRIDS[self._fitting.types[name]], self._fitting.n_threads
        parts = grid.parts(_encoded(name, goal, grid.type, moment.importance))
        if self._recipe.two_sided and self._gradients is not None:
            round_two_sided(goal, moment, self._gradients.fisher(name), grid, parts, threads)
        else:
            round_with_feedback(goal, moment, grid, parts, threads)
            descend(goal, moment, grid, parts, threads)
        return _source(name, grid.type, goal.shape, grid.data(parts))

    def _weights(self, name: str) -> Floats:
        source = self._fitting.file.tensors[name].source()
        return decode(source.read(0, source.rows), source.type).reshape(source.shape)

    def _keep(self, made: Sequence[TensorSource]) -> None:
        """On the disk, as the rounded model is read from there."""
        path = self._folder / f"{len(self.made)}.gguf"
        write_gguf(path, {"general.architecture": "none"}, made)
        self.made |= GGUFFile.open(path).tensors

    def _tensors(self) -> Mapping[str, TensorInfo]:
        return ChainMap(self.made, dict(self._fitting.file.tensors))


def _both(
    runner: Runner,
    stage: Stage,
    wanted: Mapping[str, Value],
    x: Floats,
    y: Floats | None,
    tensors: Mapping[str, TensorInfo],
) -> Iterator[tuple[slice, dict[str, Floats], dict[str, Floats]]]:
    """Chunk by chunk the values of both streams; without y they are the same."""
    if y is None:
        for part, values in runner.each(stage.nodes, wanted, x):
            yield part, values, values
        return
    own = runner.each(stage.nodes, wanted, y, tensors)
    for (part, values), (_, others) in zip(runner.each(stage.nodes, wanted, x), own, strict=True):
        yield part, values, others


def _first_tokens(chunks: Sequence[list[int]], times: int) -> Floats:
    """Weights of tokens: the first of each chunk counts so many times."""
    weights = np.ones((len(chunks), len(chunks[0])), np.float32)
    weights[:, 0] = times
    return weights.reshape(-1)


def _add(
    sets: Sequence[tuple[list[str], Sums, Floats | None]],
    number: int,
    part: slice,
    plain: Mapping[str, Floats],
    own: Mapping[str, Floats],
) -> None:
    """A chunk's tokens of both streams."""
    reads, added = f"{number} reads", f"{number} added"
    lost = plain[added] - own[added] if added in plain and plain is not own else None
    for _, sums, weights in sets:
        sums.add(own[reads], plain[reads], lost, None if weights is None else weights[part])


def _goal(weights: Floats, sums: Sums, moment: Moment) -> Floats:
    """T of a matrix W."""
    if sums.crossed is None:
        return weights
    aim = weights @ (sums.crossed + (moment.solid - sums.h))
    if sums.lost is not None:
        aim += sums.lost
    return np.ascontiguousarray(np.linalg.solve(moment.solid, aim.T).T, np.float32)


def _encoded(name: str, goal: Floats, type: GGMLType, importance: Floats) -> NDArray[np.uint8]:
    try:
        check_range(goal, type)
        return encode(goal, type, importance)
    except FormatError as error:
        raise FormatError(f"tensor {quoted(name)}: {error}") from error


def _source(name: str, type: GGMLType, shape: tuple[int, ...], data: NDArray[np.uint8]) -> TensorSource:
    return TensorSource(name, shape, type, lambda start, stop: data[start:stop])
