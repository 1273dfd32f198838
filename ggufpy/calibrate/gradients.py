"""Gradients of what a network says, at the outputs of its linears: what an error there costs.

The loss of a token is -log p of a label that is drawn from the network's own p, so that the mean of g g^T
is the Fisher information: half of e^T G e is what an error e adds to the KL divergence. The network runs
forwards once, layer by layer, with the residual stream between layers on the disk, and once backwards.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.adjoints.backward import backward, check, measured, passed_by
from ggufpy.calibrate.adjoints.functions import softmax
from ggufpy.calibrate.adjoints.passed import Passed
from ggufpy.calibrate.streams import Floats, Runner
from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Embed, Linear
from ggufpy.quants import decode
from ggufpy.runtime.engine import trace
from ggufpy.runtime.stages import Stage, before_and_behind, stages

_LOGITS = 1 << 24  # that are in memory at once

OnLayer = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Gradients:
    """Sums of gradients g over the tokens of a calibration, in the order of its chunks.

    labels: what was drawn as the token after each, (tokens,). Linears are named by their tensors; those of
    experts or of heads are not there.
    """

    labels: NDArray[np.int64]
    _folder: Path
    _weights: dict[str, Floats] = field(default_factory=dict)
    _files: dict[str, Path] = field(default_factory=dict)

    @property
    def linears(self) -> tuple[str, ...]:
        """Those that have weights."""
        return tuple(self._weights)

    def weights(self, name: str) -> Floats:
        """|g|^2 at a linear's own output, bias or not, for each token: (tokens,)."""
        return self._weights[name]

    def fisher(self, name: str) -> Floats:
        """The mean of g g^T at the output of a layer's linear: (outputs, outputs), from the disk."""
        return self._load(f"fisher of {name}")

    def output_moment(self) -> Floats:
        """The mean of h h^T, h being what the output matrix reads: (width, width), from the disk."""
        return self._load("output")

    def embedding_fisher(self) -> Floats:
        """The mean of g g^T, g being the gradient at the embedding's row of a token: (width, width)."""
        return self._load("embedding")

    def _load(self, what: str) -> Floats:
        matrix: Floats = np.load(self._files[what])
        return matrix

    def save(self) -> dict[str, Any]:
        """Leave all in the folder, and return what `load` needs to have it again."""
        names = list(self._weights)
        np.savez(self._folder / "tokens.npz", self.labels, *self._weights.values())
        return {"names": names, "files": {what: path.name for what, path in self._files.items()}}

    @classmethod
    def load(cls, folder: Path, saved: Mapping[str, Any]) -> Gradients:
        """What was saved in a folder."""
        labels, *weights = np.load(folder / "tokens.npz").values()
        files = {what: folder / name for what, name in saved["files"].items()}
        return cls(labels, folder, dict(zip(saved["names"], weights, strict=True)), files)

    def _add(self, name: str, part: slice, g: Floats) -> None:
        if name not in self._weights:
            self._weights[name] = np.zeros(len(self.labels), np.float32)
        self._weights[name][part] = np.einsum("ti,ti->t", g, g)

    def _keep(self, what: str, matrix: Floats) -> None:
        # By numbers: a name from the file need not be one for a file.
        path = self._folder / f"{len(self._files)}.npy"
        np.save(path, matrix / np.float32(len(self.labels)))
        self._files[what] = path


def measure_gradients(
    file: GGUFFile,
    chunks: Sequence[list[int]],
    folder: Path,
    *,
    n_threads: int,
    fisher: bool,
    seed: int = 0,
    on_layer: OnLayer | None = None,
) -> Gradients:
    """Run a model forwards and backwards over chunks of tokens, all of one length.

    folder: where matrices stay for as long as they are asked for, and streams while it runs. fisher: whether
    means of g g^T are made for the linears of layers. seed: of the labels. on_layer is told how many layers
    are done, and of how many: each counts once forwards and once backwards, as do both ends.
    Raises UnsupportedModelError for models that only embed, whose layers do not run by themselves, or with
    an op that has no adjoint.
    """
    with tempfile.TemporaryDirectory(dir=folder) as streams:
        run = _Run(file, chunks, folder, Path(streams), n_threads, fisher)
        return run.run(np.random.default_rng(seed), on_layer or (lambda done, of: None))


class _Run:
    def __init__(
        self,
        file: GGUFFile,
        chunks: Sequence[list[int]],
        folder: Path,
        streams: Path,
        n_threads: int,
        fisher: bool,
    ) -> None:
        self._file, self._chunks, self._streams = file, chunks, streams
        self._n_threads, self._fisher = n_threads, fisher
        self._runner = Runner(file, chunks, n_threads)
        self._tokens = sum(map(len, chunks))
        self._numbers = count()
        self.found = Gradients(np.zeros(self._tokens, np.int64), folder)

    def run(self, rng: np.random.Generator, on_layer: OnLayer) -> Gradients:
        graph, outputs = trace(self._file)
        if "logits" not in outputs:
            problem = "embeds texts, and gradients are of models that write them"
            raise UnsupportedModelError(f"{self._file.path}: {problem}: use a method that needs none")
        check(graph.nodes)
        layers = stages(graph.nodes)
        front, head = before_and_behind(graph.nodes, outputs["logits"])
        steps = count(1)

        def done() -> None:
            on_layer(next(steps), 2 * len(layers) + 2)

        entries = [self._forward(front, layers[0].reads, None)]
        for stage in layers:
            entries.append(self._forward(stage.nodes, stage.leaves, entries[-1]))
            done()
        g = self._head(head, entries.pop(), rng)
        done()
        for stage in reversed(layers):
            g = self._layer(stage, entries.pop(), g)
            done()
        self._front(front, layers[0].reads, g)
        done()
        return self.found

    def _forward(self, nodes: Sequence[Node], leaves: Value, rows: Floats | None) -> Floats:
        """What nodes leave of what they read, all tokens."""
        path = self._streams / f"{next(self._numbers)}"
        with path.open("wb") as file:
            for _, values in self._runner.each(nodes, {"x": leaves}, rows):
                file.write(np.ascontiguousarray(values["x"]).data)
        return np.memmap(path, np.float32, "r+", shape=(self._tokens, leaves.width))

    def _head(self, stage: Stage, rows: Floats, rng: np.random.Generator) -> Floats:
        """Draw labels; what the last layer leaves gives way to the gradient there.

        There are many logits of a token, so few tokens go at a time.
        """
        drawn = rng.random(self._tokens)
        (reads,) = stage.nodes[0].outputs
        size = max(1, min(self._tokens, _LOGITS // stage.leaves.width))
        blocks = [[0] * min(size, self._tokens - first) for first in range(0, self._tokens, size)]
        output = stage.linears()[-1]
        moment = np.zeros((output.x.width,) * 2, np.float32)
        for part, passed in self._passed(Runner(self._file, blocks, self._n_threads), stage.nodes, rows):
            p = softmax(passed[stage.leaves])
            labels = [_drawn(row, x) for row, x in zip(p, drawn[part], strict=True)]
            self.found.labels[part] = labels
            p[np.arange(len(p)), labels] -= 1
            g = backward(passed, {stage.leaves: p})
            self.found._add(output.matrices[0].tensor, part, g[output.outputs[0]])
            moment += passed[output.x].T @ passed[output.x]
            rows[part] = g[reads]
        self.found._keep("output", moment)
        return rows

    def _layer(self, stage: Stage, rows: Floats, above: Floats) -> Floats:
        """Its linears' gradients; what it reads gives way to the gradient there. above: that at its end."""
        (reads,) = stage.nodes[0].outputs
        linears = {node.matrices[0].tensor: node.outputs[0] for node in stage.linears() if _is_plain(node)}
        asked = linears.items() if self._fisher else ()
        fishers = {name: np.zeros((value.width,) * 2, np.float32) for name, value in asked}
        wanted = {**linears, "": reads}
        with ThreadPoolExecutor(self._n_threads) as pool:
            for part, g in self._backward(pool, stage, rows, above, wanted):
                rows[part] = g.pop("")
                for name, own in g.items():
                    self.found._add(name, part, own)
                list(pool.map(lambda name: _add_square(fishers[name], g[name]), fishers))  # noqa: B023
        for name, matrix in fishers.items():
            self.found._keep(f"fisher of {name}", matrix)
        return rows

    def _backward(
        self, pool: ThreadPoolExecutor, stage: Stage, rows: Floats, above: Floats, wanted: Mapping[str, Value]
    ) -> Iterator[tuple[slice, dict[str, Floats]]]:
        """Chunk by chunk the gradients wanted, while the next chunks run forwards."""

        def back(part: slice, passed: Passed) -> tuple[slice, dict[str, Floats]]:
            g = backward(passed, {stage.leaves: above[part]})
            return part, {name: g[value] for name, value in wanted.items()}

        running = deque[Future[tuple[slice, dict[str, Floats]]]]()
        for part, passed in self._passed(self._runner, stage.nodes, rows):
            running.append(pool.submit(back, part, passed))
            if len(running) > self._n_threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def _front(self, nodes: Sequence[Node], leaves: Value, above: Floats) -> None:
        """The gradient at the embedding."""
        embed = next(node for node in nodes if isinstance(node, Embed) and node.by == "token")
        total = np.zeros((embed.outputs[0].width,) * 2, np.float32)
        for part, passed in self._passed(self._runner, nodes, None):
            g = backward(passed, {leaves: above[part]})[embed.outputs[0]] * np.float32(embed.scale)
            total += g.T @ g
        self.found._keep("embedding", total)

    def _passed(
        self, runner: Runner, nodes: Sequence[Node], rows: Floats | None
    ) -> Iterator[tuple[slice, Passed]]:
        """Which tokens a chunk has, and what nodes made of them."""
        values = {f"values {number}": value for number, value in enumerate(measured(nodes))}
        weight = _Weights(self._file)
        for part, found in runner.each(nodes, values, rows):
            shaped = {
                value: found[name].reshape(len(found[name]), *value.shape) for name, value in values.items()
            }
            yield part, passed_by(nodes, shaped, weight)


class _Weights:
    """A file's tensors as floats, each decoded once."""

    def __init__(self, file: GGUFFile) -> None:
        self._file = file
        self._decoded: dict[str, Floats] = {}

    def __call__(self, name: str) -> Floats:
        if name not in self._decoded:
            source = self._file.tensors[name].source()
            self._decoded[name] = decode(source.read(0, source.rows), source.type).reshape(source.shape)
        return self._decoded[name]


def _add_square(total: Floats, g: Floats) -> None:
    total += g.T @ g


def _is_plain(linear: Linear) -> bool:
    return linear.route is None and not linear.per_head


def _drawn(p: Floats, at: float) -> int:
    """The label that has the share `at` of all p below it."""
    below = np.cumsum(p, dtype=np.float64)
    return min(int(np.searchsorted(below, at * below[-1], side="right")), len(p) - 1)
