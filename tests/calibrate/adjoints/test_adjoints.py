"""Every op's adjoint, in every form of the op, against finite differences of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from ops import ARRAYS, SHAPES, Build, delta_rule, experts, heads_of, rope, scan, strided, used, x_of

from ggufpy.calibrate.adjoints.backward import ADJOINTS, backward, measured, passed_by
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Node, Value
from ggufpy.graph import nodes as n
from ggufpy.graph.nodes import Size
from ggufpy.graph.rope import Rope
from ggufpy.graph.values import Function
from ggufpy.runtime.passes import UNSELECTIVE, Nodes

TEXT = [5, 3, 30, 8, 1, 1, 22, 17, 9, 4, 2]
STEP = 1e-6


class Shape:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


def traced(build: Build) -> tuple[Nodes, Value]:
    graph = Graph.trace({}, {name: Shape(shape) for name, shape in SHAPES.items()}, "test")
    output = build(graph)
    return graph.nodes, output


def changed(
    nodes: Nodes, text: reference.Text, value: Value, by: NDArray[Any], output: Value
) -> NDArray[Any]:
    """The output, once a value was moved."""
    at = next(i for i, node in enumerate(nodes) if value in node.outputs)
    again = reference.Text(text.tensors, text.tokens, values=dict(text.values), chosen=dict(text.chosen))
    again.windows = text.windows
    again.values[value] = text[value] + by
    again.run(nodes[at + 1 :])
    result: NDArray[Any] = again[output]
    return result


def check(build: Build, text: list[int] = TEXT) -> None:
    """With and without passes, at every value on the way to the output."""
    nodes, output = traced(build)
    tensors = {name: ARRAYS[name].astype(np.float64) for name in used(build)}
    fused = nodes
    for each in UNSELECTIVE:
        fused = each(fused, [output])
    for variant in (nodes, fused):
        check_nodes(variant, output, tensors, text)


def check_nodes(nodes: Nodes, output: Value, tensors: dict[str, NDArray[Any]], tokens: list[int]) -> None:
    rng = np.random.default_rng(1)
    text = reference.Text(tensors, tokens)
    text.run(nodes)
    passed = passed_by(nodes, {value: text[value] for value in measured(nodes)}, tensors.__getitem__)
    weights = rng.standard_normal(text[output].shape)
    found = backward(passed, {output: weights})
    checked = 0
    for value in differentiable(nodes, output):
        direction = rng.standard_normal(text[value].shape)
        above, below = (changed(nodes, text, value, sign * STEP * direction, output) for sign in (1, -1))
        want = float((weights * (above - below)).sum()) / (2 * STEP)
        got = float((found[value] * direction).sum()) if value in found else 0.0
        scale = float(np.sqrt((found[value] ** 2).sum())) if value in found else 1.0
        assert abs(got - want) < 3e-6 * scale + 1e-7, (value, got, want)
        checked += 1
    assert checked
    check_singles(nodes, text, output, weights, found)


def check_singles(
    nodes: Nodes,
    text: reference.Text,
    output: Value,
    weights: NDArray[Any],
    want: dict[Value, NDArray[Any]],
) -> None:
    """In f32 it gives f32, and the same."""
    singles = {name: text.tensor(name).astype(np.float32) for name in text.tensors}
    values = {value: text[value].astype(np.float32) for value in measured(nodes)}
    found = backward(passed_by(nodes, values, singles.__getitem__), {output: weights.astype(np.float32)})
    assert found.keys() == want.keys()
    for value, g in found.items():
        assert g.dtype == np.float32, value
        np.testing.assert_allclose(g, want[value], atol=3e-5 * np.abs(want[value]).max() + 1e-9)


def differentiable(nodes: Nodes, output: Value) -> Iterator[Value]:
    for node in nodes:
        if not isinstance(node, n.RopeTable):
            yield from (value for value in node.outputs if value is not output)


# ---- Values moved and put together ----

MOVED: dict[str, Build] = {
    "concat": lambda g: g.concat(x_of(g)[:10].apply("tanh"), x_of(g)[20:50] * 2.0, g.linear(x_of(g), "w")),
    "view of a slice": lambda g: strided(g).flat() + 1.0,
    "slice of a view of a slice": lambda g: strided(g).view(2, 16)[3:9].apply("tanh"),
    "total": lambda g: g.total(heads_of(g)),
    "mean": lambda g: g.pool(x_of(g), "mean") * 2.0,
    "first": lambda g: g.pool(x_of(g), "first") * 2.0,
    "view of a mean": lambda g: g.pool(x_of(g), "mean").view(4, 16) * 2.0,
    "affine": lambda g: strided(g) * 3.0 + 1.0,
    "clamp": lambda g: g.clamp(strided(g), -0.5, 0.25),
    "from below": lambda g: g.clamp(strided(g) * -2.0, -0.5),
    "sum": lambda g: strided(g) + heads_of(g)[8:],
    "product": lambda g: strided(g) * heads_of(g)[8:],
    "square": lambda g: (lambda x: x * x)(strided(g) * 1.0),
    "sum with one value": lambda g: heads_of(g)[2:] + heads_of(g)[:1],
    "product with one value": lambda g: heads_of(g)[2:] * heads_of(g)[:1],
    "read twice": lambda g: (lambda x: g.norm(x, "norm", 1e-6) + x * x)(x_of(g) * 2.0),
}


@pytest.mark.parametrize("name", MOVED)
def test_values(name: str) -> None:
    check(MOVED[name])


@pytest.mark.parametrize("function", reference.FUNCTIONS)
def test_functions(function: Function) -> None:
    check(lambda g: (x_of(g) * 4.0).apply(function))


@pytest.mark.parametrize("size", ["rms", "layer", "l2"])
@pytest.mark.parametrize("name", [None, "norm", "head_norm", "heads_norm"])
@pytest.mark.parametrize("epsilon", [1e-6, 4.0])
def test_norms(size: Size, name: str | None, epsilon: float) -> None:
    check(lambda g: g.norm(x_of(g) * 1.0 if name == "norm" else heads_of(g) * 1.0, name, epsilon, size))


@pytest.mark.parametrize("function", ["add", "mul"])
@pytest.mark.parametrize("name", ["each", "each_of_heads", "of_head", "per_head", "scaled.scale"])
def test_vectors(function: Literal["add", "mul"], name: str) -> None:
    check(lambda g: g.vector(heads_of(g), function, name))


# ---- Linears ----

LINEARS: dict[str, Build] = {
    "plain": lambda g: g.linear(x_of(g), "w"),
    "scaled": lambda g: g.linear(x_of(g), "scaled"),
    "adds": lambda g: x_of(g) + g.linear(x_of(g), "same"),
    "together": lambda g: g.concat(g.linear(x_of(g), "w"), g.linear(x_of(g), "same").apply("tanh")),
    "of heads": lambda g: g.linear_of_heads(heads_of(g), "heads"),
    "of experts": lambda g: experts(g, g.linear(x_of(g), "router")),
    "of heads that are wide": lambda g: g.linear_of_heads(strided(g), "halves"),
}


@pytest.mark.parametrize("name", LINEARS)
def test_linears(name: str) -> None:
    check(LINEARS[name])


@pytest.mark.parametrize("function", reference.FUNCTIONS)
def test_gates(function: Function) -> None:
    check(lambda g: (lambda x: g.linear(x, "w").apply(function) * g.linear(x, "u"))(x_of(g) * 1.0))


def test_a_gated_pair_that_is_added() -> None:
    check(lambda g: (lambda x: x[:48] + g.linear(x, "w").apply("silu") * g.linear(x, "u"))(x_of(g) * 1.0))


def test_gated_experts() -> None:
    def build(g: Graph) -> Value:
        chosen = g.route(g.linear(x_of(g), "router"), 3, normalize=True)
        gate = g.linear_of_experts(x_of(g), "experts", chosen).apply("silu")
        inner = gate * g.linear_of_experts(x_of(g), "experts", chosen)
        return g.total(g.linear_of_experts(inner, "back", chosen) * chosen.weights)

    check(build)


ROUTES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "normalized": {"normalize": True, "scale": 2.5},
    "sigmoid": {"gating": "sigmoid"},
    "sigmoid, normalized": {"gating": "sigmoid", "normalize": True},
    "of the chosen": {"gating": "chosen"},
    "with a bias": {"gating": "sigmoid", "bias": "choice", "normalize": True},
    "of groups": {"gating": "sigmoid", "groups": 4, "groups_used": 2, "group_best": 2},
    "mixed": {"gating": "sparsemixer", "jitter": 0.5},
    "mixed, normalized": {"gating": "sparsemixer", "jitter": 0.2, "normalize": True},
}


@pytest.mark.parametrize("name", ROUTES)
def test_routes(name: str) -> None:
    check(lambda g: experts(g, g.linear(x_of(g), "router") * 3.0, **ROUTES[name]))


# ---- Places and states ----


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("factors", [None, "factors"])
def test_turning(halves: bool, factors: str | None) -> None:
    check(lambda g: g.rope(heads_of(g), rope(16, halves=halves), factors))
    check(lambda g: g.rope(heads_of(g), rope(6, halves=halves)))


def test_turning_by_yarn() -> None:
    yarn = Rope(16, True, 100.0, "yarn", 4.0, 16, 1.0, 0.0, 32.0, 1.0, True)
    check(lambda g: g.rope(heads_of(g), yarn))


ATTENTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": 0.7},
    "windowed": {"window": 3},
    "capped": {"softcap": 0.8},
    "with sinks": {"sinks": "sinks"},
    "sloped": {"max_bias": 4.0},
    "both ways": {"causal": False},
    "both ways in a window": {"causal": False, "window": 3},
    "chunked": {"chunk": 4},
    "warmer": {"temperature": 0.4, "temperature_length": 3, "temperature_offset": 1},
    "all of it": {"softcap": 2.0, "sinks": "sinks", "window": 5, "max_bias": 4.0},
}


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("kept", [4, 2, 1])
def test_attention(name: str, kept: int) -> None:
    options = dict(ATTENTIONS[name])
    window = options.pop("window", None)

    def build(g: Graph) -> Value:
        x = x_of(g)
        k, v = x[: 16 * kept].view(kept, 16), g.linear(x, "same")[: 8 * kept].view(kept, 8)
        return g.attention(heads_of(g) * 2.0, g.keep(k, v, window=window), **options)

    check(build)


def test_what_two_attentions_read() -> None:
    def build(g: Graph) -> Value:
        kept = g.keep(heads_of(g), heads_of(g)[:8])
        return g.attention(heads_of(g), kept) + g.attention(heads_of(g) * 2.0, kept)

    check(build)


@pytest.mark.parametrize("name, size", [("conv", 4), ("short", 2)])
@pytest.mark.parametrize("text", [TEXT, TEXT[:2]])
def test_convolutions(name: str, size: int, text: list[int]) -> None:
    check(lambda g: g.conv(x_of(g), name), text)


@pytest.mark.parametrize("text", [TEXT, [7 * i % 40 for i in range(67)]], ids=len)
def test_states(text: list[int]) -> None:
    check(lambda g: scan(g, "a"), text)
    check(lambda g: scan(g, "a_each"), text)
    check(delta_rule, text)


# ---- The whole ----


def test_every_kind_of_node_has_one() -> None:
    kinds = {kind for kind in vars(n).values() if isinstance(kind, type) and issubclass(kind, Node)}
    assert kinds - {Node} == set(ADJOINTS)


def test_an_op_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ADJOINTS, n.Conv)
    nodes, output = traced(lambda g: g.conv(x_of(g), "conv"))
    passed = passed_by(
        nodes, {value: np.zeros((3, *value.shape)) for value in measured(nodes)}, ARRAYS.__getitem__
    )
    with pytest.raises(UnsupportedModelError, match="the op Conv has no gradient: use a method that needs"):
        backward(passed, {output: passed[output]})
