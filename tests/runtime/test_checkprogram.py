"""gg_run takes nothing on trust: whatever is changed in a program or a batch, it does nothing and says -1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models
from lies import ARGUMENTS, ARRAYS_OF_BATCH, COUNTS, get, less, lies, more, put
from ops import ARRAYS, TEXT, delta_rule, experts, heads_of, rope, scan, x_of
from programs import Batch, Machine

from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Graph, Value
from ggufpy.runtime.engine import Span

BLOCKS = np.random.default_rng(0).standard_normal((4, 24, 32)).astype(np.float32)
TENSORS: dict[str, Any] = {
    **ARRAYS,
    "blocks.weight": tiny_models.source("blocks.weight", BLOCKS, GGMLType.Q8_0),
}


def everything(g: Graph) -> Value:
    """A value for which each kind of op is needed."""
    x = x_of(g) + g.embed("x", 64, "place")
    q, turn = heads_of(g), rope(16, halves=True)
    k, v = g.linear(x, "w")[:32].view(2, 16), g.linear(x, "w")[16:].view(2, 16)
    near = g.attention(g.rope(q, turn, sections=(2, 2, 2, 2)), g.keep(g.rope(k, turn), v, 40))
    far = g.attention(g.norm(q, "heads_norm", 1e-6), g.keep(k, v), sinks="sinks")
    gated = g.linear(x, "w").apply("silu") * g.linear(x, "u")
    y = g.conv(x + near.flat() + far.flat(), "conv") + scan(g, "a").flat()
    y = g.norm(y.apply("tanh"), "norm", 1e-6, "layer") * 2.0 + experts(g, g.linear(y, "router"))
    headed = g.linear_of_heads(g.concat(q, q * 2.0), "blocks")
    y = g.vector(g.vector(y, "add", "each").view(4, 16), "mul", "per_head").flat()
    return g.concat(y, gated, delta_rule(g).flat(), headed.flat())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    graph = Graph.trace({}, TENSORS, "test")
    everything(graph)
    tensors = {name: TENSORS[name] for name in graph.used}
    return Machine(tmp_path_factory.mktemp("everything"), everything, tensors, precision="fast", max_rows=45)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("pooled")
    return Machine(folder, lambda g: g.pool(x_of(g), "mean"), {"x.weight": ARRAYS["x.weight"]}, max_rows=45)


def batch_of(machine: Machine) -> Batch:
    """Three texts: a prompt that goes on, one that begins, a generated token."""
    sequences = [machine.new_sequence() for _ in range(3)]
    machine.run([Span(sequences[0], TEXT[:36])])
    machine.run([Span(sequences[2], TEXT[:31])])
    spans = [
        Span(sequences[0], TEXT[:3]),
        Span(sequences[1], TEXT[:40][::-1], logits="all"),
        Span(sequences[2], [7], True),
    ]
    return Batch(machine, spans)


def check(machine: Machine, batch: Batch) -> None:
    """Each lie alone is refused, and without it the batch runs."""
    assert batch.run() == 0
    believed = []
    for what, thing, path, value in lies(machine, batch):
        old = get(thing, path)
        if value is less and old == 0:
            continue
        put(thing, path, value(old) if value in (less, more) else value)
        if batch.run() != -1:
            believed.append(what)
        put(thing, path, old)
        assert batch.run() == 0, what
    assert not believed, "\n".join(believed)


def test_programs_and_states_are_checked(machine: Machine) -> None:
    assert ARGUMENTS.keys() <= {type(node) for node in machine.plan.nodes}
    check(machine, batch_of(machine))


def test_pools_are_checked(pooled: Machine) -> None:
    spans = [Span(pooled.new_sequence(), TEXT), Span(pooled.new_sequence(), TEXT[:4])]
    check(pooled, Batch(pooled, spans))


@pytest.mark.parametrize("name, value", COUNTS)
def test_counts_are_checked(machine: Machine, name: str, value: Any) -> None:
    batch = batch_of(machine)
    old = batch.counts[name]
    batch.counts[name] = value(old) if callable(value) else value
    assert batch.run() == -1
    batch.counts[name] = old
    assert batch.run() == 0


@pytest.mark.parametrize("name, index, value", ARRAYS_OF_BATCH)
def test_arrays_are_checked(machine: Machine, name: str, index: int, value: int) -> None:
    batch = batch_of(machine)
    array = batch.arrays[name]
    old, array[index] = array[index], value
    assert batch.run() == -1
    array[index] = old
    assert batch.run() == 0


def test_given_rows_are_as_wide_as_embeddings(machine: Machine) -> None:
    batch = batch_of(machine)
    batch.arrays["token"][3] = -1
    assert batch.run() == -1
    batch.given = np.zeros((44, 63), np.float32)
    assert batch.run() == -1
    batch.given = np.zeros((44, 64), np.float32)
    assert batch.run() == 0
