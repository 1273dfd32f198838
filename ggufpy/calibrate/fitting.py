"""Layer by layer, matrices are rounded so that the outputs of the network change least.

Two streams of the same tokens go through the layers: x of the float model, and y of the one that is being
quantized. A matrix W that reads X in the one and Y in the other shall make W X of Y. So what is rounded is
the least-squares solution  T = (W C + D) (H + a)^-1  with the means H of y y^T, C of x y^T and, where its
outputs are added to a value of the stream, D of (x - y) y^T of that: what was lost before. a is a share of
H's mean diagonal. Without `propagate` y is x, so T is W.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.experts import given
from ggufpy.calibrate.gathering import Gathering
from ggufpy.calibrate.gradients import Gradients
from ggufpy.calibrate.groups import Group, groups_of
from ggufpy.calibrate.recipe import Recipe
from ggufpy.calibrate.rounding import made_of, rounded, solution
from ggufpy.calibrate.streams import Floats, Runner
from ggufpy.calibrate.sums import Sums
from ggufpy.calibrate.unfinished import done, finish, save
from ggufpy.errors import GgufpyError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.writer import write_gguf
from ggufpy.graph.nodes import Embed
from ggufpy.quants.moment import Moment
from ggufpy.quants.rounding import KINDS
from ggufpy.runtime.engine import trace
from ggufpy.runtime.passes import residuals
from ggufpy.runtime.stages import Stage, before_and_behind, stages

Doubles = NDArray[np.float64]
OnLayer = Callable[[int, int], None]

DAMPING = 0.01
_STATE = "layers.json"


class Fitting:
    """Rounds the matrices of a network to given types, by what it computes of some chunks."""

    def __init__(
        self, file: GGUFFile, types: Mapping[str, GGMLType], chunks: Sequence[list[int]], n_threads: int
    ) -> None:
        """Raises UnsupportedModelError for networks whose layers do not run by themselves.

        types: of the tensors that are to be rounded. chunks: contexts of tokens, all of one length.
        """
        graph, outputs = trace(file)
        self.nodes = residuals(graph.nodes, list(outputs.values()))
        try:
            self.layers = stages(self.nodes)
        except UnsupportedModelError as error:
            architecture = file.metadata.get("general.architecture")
            raise UnsupportedModelError(f"{file.path} ({architecture}): {error}") from error
        self.head = before_and_behind(self.nodes, outputs["logits"])[1]
        self.embedding = next(
            node.tensor for node in self.nodes if isinstance(node, Embed) and node.by == "token"
        )
        self.output = self.head.linears()[-1]
        self.file, self.types, self.chunks = file, types, chunks
        self.n_threads, self.runner = n_threads, Runner(file, chunks, n_threads)

    def round(
        self, recipe: Recipe, gradients: Gradients | None, folder: Path, on_layer: OnLayer | None = None
    ) -> dict[str, TensorInfo]:
        """The tensors that could be rounded, in files of `folder`, which must stay.

        Goes on where it was stopped, if the same was begun in that folder.

        gradients: where the recipe needs them. on_layer is told how many layers are done, and of how many.
        What is no linear of one matrix, or not of a type in KINDS, is left out, and so is an embedding of
        which there are no gradients, unless it makes the logits, too.
        Raises GgufpyError for texts that say too little.
        """
        run = _Run(self, recipe, gradients, folder)
        first, x, y = run.resume() or (0, *run.begin())
        for number, stage in enumerate(self.layers[first:], first + 1):
            x, y = run.layer(stage, x, y)
            run.leave(number, x, y)
            if on_layer is not None:
                on_layer(number, len(self.layers))
        run.end(x, y)
        return run.made


class _Run:
    """One recipe on its way through the network."""

    def __init__(self, fitting: Fitting, recipe: Recipe, gradients: Gradients | None, folder: Path) -> None:
        self._fitting, self._recipe, self._gradients, self._folder = fitting, recipe, gradients, folder
        self._gathering = Gathering(fitting, recipe, gradients)
        self.made: dict[str, TensorInfo] = {}
        self._files: list[str] = []

    def resume(self) -> tuple[int, Floats, Floats] | None:
        """How many layers were rounded before in this folder, and what they leave in both streams."""
        state = done(self._folder / _STATE)
        if state is None:
            return None
        for name in state["files"]:
            self.made |= GGUFFile.open(self._folder / name).tensors
        self._files = state["files"]
        x = np.load(self._folder / f"x{state['layers']}.npy")
        y = np.load(self._folder / f"y{state['layers']}.npy") if self._recipe.propagate else x
        return state["layers"], x, y

    def leave(self, layers: int, x: Floats, y: Floats) -> None:
        """So many layers are rounded: what is needed to go on from there."""
        for name, rows in {"x": x, "y": y}.items() if self._recipe.propagate else [("x", x)]:
            save(self._folder / f"{name}{layers}.npy", rows)
        finish(self._folder / _STATE, {"layers": layers, "files": self._files})
        for name in ("x", "y"):
            (self._folder / f"{name}{layers - 1}.npy").unlink(missing_ok=True)

    def begin(self) -> tuple[Floats, Floats]:
        """Round the embedding; what the first layer reads in both streams."""
        fitting = self._fitting
        if fitting.types.get(fitting.embedding) in KINDS:
            moment = self._gathering.of_embedding()
            if moment is not None and moment.any():
                self._keep([self._rounded(fitting.embedding, _moment(moment, fitting.embedding))])
        wanted = {"x": fitting.layers[0].reads}
        x = fitting.runner.run(fitting.nodes, wanted, None)["x"]
        if not (self._recipe.propagate and self.made):
            return x, x
        return x, fitting.runner.run(fitting.nodes, wanted, None, self._tensors())["x"]

    def layer(self, stage: Stage, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Round a layer's matrices; what it leaves in both streams."""
        groups, runner = groups_of(stage, self._fitting.types), self._fitting.runner
        if not self._recipe.propagate:
            left = np.empty((len(x), stage.leaves.width), np.float32)
            plain = [group for group in groups if group.route is None]
            for group, sets in zip(plain, self._gathering.sums(stage, plain, x, None, {}, left), strict=True):
                self._round(group, sets)
            for group in groups:
                if group.route is not None:
                    self._round_experts(stage, group, x)
            return left, left
        for group in groups:
            if group.route is None:
                self._round(group, self._gathering.sums(stage, [group], x, y, self._tensors())[0])
            else:
                self._round_experts(stage, group, y)
        left = runner.run(stage.nodes, {"out": stage.leaves}, x)["out"]
        return left, runner.run(stage.nodes, {"out": stage.leaves}, y, self._tensors())["out"]

    def end(self, x: Floats, y: Floats) -> None:
        """Round the matrix that makes logits, where it is not the embedding."""
        head = self._fitting.head
        types = {name: type for name, type in self._fitting.types.items() if name not in self.made}
        for group in groups_of(head, types):
            other = y if self._recipe.propagate else None
            self._round(group, self._gathering.sums(head, [group], x, other, self._tensors())[0])

    def _round(self, group: Group, sets: Sequence[tuple[list[str], Sums]]) -> None:
        """Round matrices that read the same, but those that read zeros, or whose outputs do nothing."""
        made = []
        for names, sums in sets:
            if sums.is_nothing:
                continue
            moment = _moment(sums.h, names[0])
            goal = solution(sums)
            for name in names:
                fisher = None
                if self._recipe.two_sided and self._gradients is not None and name.startswith("blk."):
                    found = self._gradients.fisher(name)
                    fisher = found if found.any() else None
                tensor, type = self._fitting.file.tensors[name], self._fitting.types[name]
                data = rounded(
                    tensor,
                    type,
                    moment,
                    self._fitting.n_threads,
                    goal=goal,
                    fisher=fisher,
                    learned=self._recipe.learned,
                )
                made.append(made_of(tensor, type, data))
        self._keep(made)

    def _rounded(self, name: str, moment: Moment) -> TensorSource:
        tensor, type = self._fitting.file.tensors[name], self._fitting.types[name]
        return made_of(
            tensor, type, rounded(tensor, type, moment, self._fitting.n_threads, learned=self._recipe.learned)
        )

    def _round_experts(self, stage: Stage, group: Group, rows: Floats) -> None:
        """Round the matrices of experts, each by the tokens that it is given."""
        fitting = self._fitting
        count = fitting.file.tensors[group.tensors[0]].shape[0]
        reads = given(fitting.runner, stage, group, rows, self._tensors(), count)
        if reads.is_nothing:
            return
        data: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in group.tensors}
        for expert, moment in enumerate(reads.moments(DAMPING)):
            for name, made in data.items():
                tensor, type = fitting.file.tensors[name], fitting.types[name]
                first, last = expert * tensor.shape[1], (expert + 1) * tensor.shape[1]
                learned, threads = self._recipe.learned, fitting.n_threads
                made.append(rounded(tensor, type, moment, threads, learned=learned, first=first, last=last))
        tensors = [(fitting.file.tensors[name], np.concatenate(made)) for name, made in data.items()]
        self._keep([made_of(tensor, fitting.types[tensor.name], all) for tensor, all in tensors])

    def _keep(self, made: Sequence[TensorSource]) -> None:
        """On the disk, as the rounded model is read from there."""
        path = self._folder / f"{len(self.made)}.gguf"
        write_gguf(path, {"general.architecture": "none"}, made)
        self.made |= GGUFFile.open(path).tensors
        self._files.append(path.name)

    def _tensors(self) -> Mapping[str, TensorInfo]:
        return ChainMap(self.made, dict(self._fitting.file.tensors))


def _moment(h: Doubles, name: str) -> Moment:
    try:
        return Moment(h, DAMPING)
    except GgufpyError as error:
        raise GgufpyError(f"tensor {quoted(name)}: {error}") from error
