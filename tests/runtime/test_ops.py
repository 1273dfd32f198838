"""Each op alone, as no architecture has it yet, against the reference."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import reference
import tiny_models
from engines import nmse
from ops import (
    ARRAYS,
    TEXT,
    Build,
    Passes,
    check,
    experts,
    heads_of,
    rope,
    strided,
    with_and_without_passes,
    x_of,
)
from programs import Machine

from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Graph, Node, Value
from ggufpy.graph import nodes as n
from ggufpy.graph.nodes import Size
from ggufpy.graph.values import Function
from ggufpy.runtime.engine import Span

# ---- Views, concat ----

VIEWS: dict[str, Build] = {
    "concat": lambda g: g.concat(x_of(g)[:10].apply("tanh"), x_of(g)[20:50] * 2.0, g.linear(x_of(g), "w")),
    "concat of heads": lambda g: g.concat(strided(g) * 3.0, heads_of(g)[:4].apply("silu")),
    "concat of one part twice": lambda g: (lambda y: g.concat(y, y))(x_of(g)[8:24].apply("relu")),
    "concat of parts that are read elsewhere": lambda g: (
        lambda y: g.concat(y, x_of(g)[:4]) + g.concat(x_of(g)[:4], y)
    )(x_of(g)[3:15].apply("tanh")),
    "concat of a concat": lambda g: g.concat(g.concat(x_of(g)[:4] * 2.0, x_of(g)[9:11]), x_of(g)[30:]),
    "view of a slice": lambda g: strided(g).flat() + 1.0,
    "slice of a slice": lambda g: (heads_of(g)[4:12] * 2.0)[2:6] + 1.0,
    "slice of a view of a slice": lambda g: strided(g).view(2, 16)[3:9].apply("tanh"),
    "total": lambda g: g.total(heads_of(g)),
    "total of strided heads": lambda g: g.total(strided(g)),
}


@with_and_without_passes
@pytest.mark.parametrize("name", VIEWS)
def test_views(tmp_path: Path, name: str, passes: Passes) -> None:
    check(tmp_path, VIEWS[name], passes)


# ---- Values that lie in parts ----

STRIDED: dict[str, Build] = {
    "affine": lambda g: strided(g) * 3.0 + 1.0,
    "clamp": lambda g: g.clamp(strided(g), -0.5, 0.25),
    "unary": lambda g: strided(g).apply("gelu"),
    "binary": lambda g: strided(g) + heads_of(g)[8:] * strided(g),
    "binary with one value": lambda g: heads_of(g)[2:] * heads_of(g)[:1] + heads_of(g)[1:2],
    "vector": lambda g: g.vector(strided(g).view(2, 16)[8:], "mul", "factors"),
    "norm": lambda g: g.norm(heads_of(g)[:8], None, 1e-3) + g.norm(heads_of(g)[8:], None, 1e-3, "layer"),
    "linear": lambda g: g.linear_of_heads(strided(g), "halves"),
    "linear adds": lambda g: g.concat(x_of(g), x_of(g))[32:96] + g.linear(x_of(g), "same"),
    "linear of a slice": lambda g: g.linear(g.concat(x_of(g), x_of(g))[32:96], "w"),
    "gate of a slice": lambda g: (lambda y: g.linear(y, "w").apply("silu") * g.linear(y, "u"))(
        g.concat(x_of(g), x_of(g))[32:96]
    ),
    "rotate": lambda g: g.rope(strided(g), rope(6, halves=True)),
    "conv": lambda g: g.conv(g.concat(x_of(g), x_of(g))[32:96], "conv"),
    "router": lambda g: experts(g, g.linear(x_of(g), "w")[:12], normalize=True),
    "keys and values": lambda g: g.attention(
        g.concat(strided(g), strided(g))[4:12], g.keep(heads_of(g)[:8], heads_of(g)[6:])
    ),
}


@with_and_without_passes
@pytest.mark.parametrize("name", STRIDED)
def test_strided_values(tmp_path: Path, name: str, passes: Passes) -> None:
    check(tmp_path, STRIDED[name], passes)


@pytest.mark.parametrize("precision", ["fast", "int8"])
@pytest.mark.parametrize("name", [name for name in STRIDED if "linear" in name or "gate" in name])
def test_strided_values_in_both_regimes(tmp_path: Path, name: str, precision: str) -> None:
    check(tmp_path, STRIDED[name], limit=1e-4, precision=precision)


# ---- Values that several read: what fuses and what writes in place must leave them whole ----


def read_twice(g: Graph, of: Callable[[Value], Value], use: Callable[[Value, Value], Value]) -> Value:
    x = x_of(g)
    return use(x, of(x))


def silu_of(g: Graph, x: Value) -> Value:
    """A gate whose linear is read elsewhere, too."""
    gate = g.linear(x, "w")
    return gate.apply("silu") * g.linear(x, "u") + gate


def four(g: Graph, x: Value) -> Value:
    """More linears of one input than one op has."""
    w, u, same, scaled = (g.linear(x, name) for name in ("w", "u", "same", "scaled"))
    return g.concat(w * u, same, scaled, g.linear(x, "router"))


SHARED: dict[str, Build] = {
    "input of a function": lambda g: read_twice(g, lambda x: x.apply("tanh"), lambda x, y: x * 2.0 + y * x),
    "input of a norm": lambda g: read_twice(g, lambda x: g.norm(x, "norm", 1e-6), lambda x, y: y + x),
    "input of a sum": lambda g: read_twice(g, lambda x: x + 1.0, lambda x, y: (x + y) * x + y),
    "part of a value": lambda g: read_twice(g, lambda x: x[8:24] * 3.0, lambda x, y: y + x[8:24] + x[:16]),
    "a view": lambda g: read_twice(g, lambda x: x.view(4, 16) * 3.0, lambda x, y: y.flat() + x),
    "turned heads": lambda g: read_twice(
        g, lambda x: g.rope(x.view(4, 16), rope(6, halves=True)).flat(), lambda x, y: y * x
    ),
    "a linear that is added": lambda g: read_twice(
        g, lambda x: g.linear(x, "same"), lambda x, y: (x + y) * y
    ),
    "a gated pair": lambda g: silu_of(g, x_of(g)),
    "up of a gated pair": lambda g: read_twice(
        g, lambda x: g.linear(x, "u"), lambda x, y: g.linear(x, "w").apply("gelu") * y + y
    ),
    "four linears": lambda g: four(g, x_of(g)),
}


@with_and_without_passes
@pytest.mark.parametrize("name", SHARED)
def test_values_that_several_read(tmp_path: Path, name: str, passes: Passes) -> None:
    check(tmp_path, SHARED[name], passes)


# ---- Arithmetic ----


@pytest.mark.parametrize("function", reference.FUNCTIONS)
def test_functions(tmp_path: Path, function: Function) -> None:
    check(tmp_path, lambda g: (x_of(g) * 8.0).apply(function))


@with_and_without_passes
@pytest.mark.parametrize("function", reference.FUNCTIONS)
@pytest.mark.parametrize("gate_first", [True, False])
def test_gates(tmp_path: Path, function: Function, gate_first: bool, passes: Passes) -> None:
    def build(g: Graph) -> Value:
        x = x_of(g)
        gate, up = g.linear(x, "w").apply(function), g.linear(x, "u")
        return gate * up if gate_first else up * gate

    check(tmp_path, build, passes)


@pytest.mark.parametrize("size", ["rms", "layer", "l2"])
@pytest.mark.parametrize("name", [None, "norm", "head_norm", "heads_norm"])
@pytest.mark.parametrize("epsilon", [1e-6, 10.0])
def test_norms(tmp_path: Path, size: Size, name: str | None, epsilon: float) -> None:
    check(tmp_path, lambda g: g.norm(x_of(g) if name == "norm" else heads_of(g), name, epsilon, size))


@pytest.mark.parametrize("function", ["add", "mul"])
@pytest.mark.parametrize("name", ["each", "each_of_heads", "of_head", "per_head"])
def test_vectors(tmp_path: Path, function: Literal["add", "mul"], name: str) -> None:
    check(tmp_path, lambda g: g.vector(heads_of(g), function, name))


@with_and_without_passes
def test_one_scale_for_all_comes_before_the_bias(tmp_path: Path, passes: Passes) -> None:
    check(tmp_path, lambda g: g.linear(x_of(g), "scaled"), passes)


@with_and_without_passes
def test_a_matrix_per_head(tmp_path: Path, passes: Passes) -> None:
    check(tmp_path, lambda g: g.linear_of_heads(heads_of(g), "heads"), passes)


@pytest.mark.parametrize("precision, limit", [("exact", 1e-9), ("fast", 5e-3), ("int8", 5e-3)])
@pytest.mark.parametrize("type", [GGMLType.Q4_1, GGMLType.Q8_0], ids=lambda type: type.label)
def test_a_matrix_of_blocks_per_head(tmp_path: Path, type: GGMLType, precision: str, limit: float) -> None:
    def build(g: Graph) -> Value:
        x = g.concat(x_of(g), x_of(g) * 0.3)
        return g.linear_of_heads(g.concat(x.view(4, 32), x.view(4, 32))[10:42], "blocks")

    floats = np.random.default_rng(0).standard_normal((4, 70, 32)).astype(np.float32)
    tensors = {
        "x.weight": ARRAYS["x.weight"],
        "blocks.weight": tiny_models.source("blocks.weight", floats, type),
    }
    machine = Machine(tmp_path, build, tensors, precision=precision)
    want = reference.compute(machine.graph.nodes, machine.output, reference.decoded(machine.tensors), TEXT)
    sequence, other = machine.new_sequence(), machine.new_sequence()
    rows = [machine.run([Span(sequence, TEXT[:33], logits="all"), Span(other, [1, 2], True, "none")])]
    rows.append(machine.run([Span(other, [4, 5], logits="none"), Span(sequence, TEXT[33:], True, "all")]))
    assert nmse(np.concatenate(rows), want.reshape(len(TEXT), -1)) < limit


# ---- Rows ----


@pytest.mark.parametrize("by", ["token", "place", "first"])
def test_embeddings(tmp_path: Path, by: Literal["token", "place", "first"]) -> None:
    check(tmp_path, lambda g: g.embed("x", 64, by, scale=0.3))


def test_rows_may_be_given_in_place_of_tokens(tmp_path: Path) -> None:
    machine = Machine(tmp_path, lambda g: g.embed("x", 64, scale=2.0), {"x.weight": ARRAYS["x.weight"]})
    given = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    tokens = [3, -1, 4, -1, -1]
    got = machine.run([Span(machine.new_sequence(), tokens, logits="all")], given=given)
    want = reference.compute(machine.graph.nodes, machine.output, ARRAYS, tokens, given=given)
    np.testing.assert_allclose(got, want)
    np.testing.assert_array_equal(got[1], given[1])


@pytest.mark.parametrize("kind", ["mean", "first"])
@pytest.mark.parametrize("sliced", [False, True])
def test_pools(tmp_path: Path, kind: Literal["mean", "first"], sliced: bool) -> None:
    tensors = {name: ARRAYS[name] for name in ("x.weight", "w.weight", "w.bias")}
    machine = Machine(tmp_path, lambda g: g.pool(g.linear(x_of(g), "w")[5 * sliced :], kind), tensors)
    texts = [TEXT[:9], TEXT[9:10], TEXT[10:30]]
    got = machine.run([Span(machine.new_sequence(), text) for text in texts])
    for row, text in zip(got, texts, strict=True):
        want = reference.compute(machine.graph.nodes, machine.output, tensors, text)
        assert nmse(row, want[0]) < 1e-9


def test_the_reference_knows_every_kind_of_node() -> None:
    kinds = {kind for kind in vars(n).values() if isinstance(kind, type) and issubclass(kind, Node)}
    assert kinds - {Node, n.Tap} == set(reference.OPS)  # a tap makes no value
