"""A few inputs and tensors for ops alone, and how they are compared with the reference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reference
from engines import nmse
from numpy.typing import NDArray
from programs import Machine

from ggufpy.graph import Graph, Value
from ggufpy.graph.rope import Rope
from ggufpy.runtime.engine import Span
from ggufpy.runtime.passes import PASSES, Pass

TOKENS = 40
TEXT = [int(t) for t in np.random.default_rng(2).permutation(TOKENS)]
SHAPES: dict[str, tuple[int, ...]] = {
    "x.weight": (TOKENS, 64),
    "w.weight": (48, 64),
    "w.bias": (48,),
    "u.weight": (48, 64),
    "scaled.weight": (48, 64),
    "scaled.bias": (48,),
    "scaled.scale": (1,),
    "same.weight": (64, 64),
    "heads.weight": (4, 24, 16),
    "halves.weight": (4, 24, 8),
    "router.weight": (12, 64),
    "choice": (12,),
    "experts.weight": (12, 48, 64),
    "experts.bias": (12, 48),
    "back.weight": (12, 64, 48),
    "norm.weight": (64,),
    "norm.bias": (64,),
    "head_norm.weight": (16,),
    "heads_norm.weight": (4, 16),
    "heads_norm.bias": (4, 16),
    "each": (64,),
    "each_of_heads": (4, 16),
    "of_head": (16,),
    "per_head": (4, 1),
    "factors": (8,),
    "sinks": (4,),
    "conv.weight": (64, 4),
    "conv.bias": (64,),
    "short.weight": (64, 2),
    "a": (4, 1),
    "a_each": (4, 8),
}


def make_arrays() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    arrays = {}
    for name, shape in SHAPES.items():
        x = rng.standard_normal(shape, np.float32)
        x = (
            x / np.float32(shape[-1] ** 0.5)
            if len(shape) > 1 and ".weight" in name and name != "x.weight"
            else x
        )
        arrays[name] = -np.exp(x) if name.startswith("a") else 1 + np.abs(x) if name == "factors" else x
    return arrays


ARRAYS = make_arrays()
Build = Callable[[Graph], Value]
Passes = tuple[Pass, ...]
with_and_without_passes = pytest.mark.parametrize("passes", [PASSES, ()], ids=["passes", "none"])


def x_of(g: Graph) -> Value:
    return g.embed("x", 64)


def heads_of(g: Graph) -> Value:
    return x_of(g).view(4, 16)


def strided(g: Graph) -> Value:
    """Half of each head, (4, 8)."""
    return heads_of(g)[4:12]


def check(folder: Path, build: Build, passes: Passes = PASSES, limit: float = 1e-9, **options: str) -> None:
    """The op computes what the reference does: at once, in pieces, generated, beside other texts."""
    tensors = {name: ARRAYS[name] for name in used(build)}
    machine = Machine(folder, build, tensors, passes=passes, **options)  # type: ignore[arg-type] # precision
    want = reference.compute(machine.graph.nodes, machine.output, tensors, TEXT)
    whole = machine.new_sequence()
    got = machine.run([Span(whole, TEXT, logits="all")])
    assert nmse(got, want.reshape(len(TEXT), -1)) < limit
    pieces, other = machine.new_sequence(), machine.new_sequence()
    rows = []
    for start, stop in ((0, 7), (7, 8), (8, 30)):
        spans = [Span(pieces, TEXT[start:stop], logits="all"), Span(other, [5, 3], True, "none")]
        rows.append(machine.run(spans))
    rows += [machine.run([Span(other, [1]), Span(pieces, [t], True)])[1:] for t in TEXT[30:]]
    assert nmse(np.concatenate(rows), want.reshape(len(TEXT), -1)) < limit


def used(build: Build) -> set[str]:
    """The tensors that a graph names."""

    class Shape:
        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shape = shape

    graph = Graph.trace({}, {name: Shape(shape) for name, shape in SHAPES.items()}, "test")
    build(graph)
    return graph.used


def experts(g: Graph, logits: Value, **options: object) -> Value:
    x = x_of(g)
    chosen = g.route(logits, 3, **options)  # type: ignore[arg-type] # parameters of the test
    inner = g.linear_of_experts(x, "experts", chosen).apply("silu")
    return g.total(g.linear_of_experts(inner, "back", chosen) * chosen.weights)


def rope(dimensions: int, *, halves: bool) -> Rope:
    return Rope(dimensions, halves, 100.0, "none", 1.0, 256, 1.5, 0.0, 32.0, 1.0, True)


def scan(g: Graph, a: str) -> Value:
    b, c = x_of(g)[:16].view(2, 8), x_of(g)[48:].view(2, 8)
    return g.scan(heads_of(g), x_of(g)[20:24].apply("softplus"), b, c, a)


def delta_rule(g: Graph) -> Value:
    q, k = (g.norm(x_of(g)[start : start + 24].view(2, 12), None, 1e-6, "l2") for start in (0, 30))
    beta, decay = x_of(g)[:4].apply("sigmoid"), x_of(g)[60:].apply("softplus") * -1.0
    return g.delta_rule(q, k, heads_of(g)[:10], beta, decay)
