"""Ops that look at experts, at places or at what was kept, alone, against the reference."""

from pathlib import Path

import numpy as np
import pytest
import reference
from engines import nmse
from ops import (
    ARRAYS,
    TEXT,
    Build,
    Passes,
    check,
    delta_rule,
    experts,
    heads_of,
    rope,
    scan,
    used,
    with_and_without_passes,
    x_of,
)
from programs import Machine

from ggufpy.graph import Graph, Value
from ggufpy.runtime.engine import Span

# ---- Experts ----


ROUTES: dict[str, dict[str, object]] = {
    "softmax": {},
    "softmax, normalized": {"normalize": True},
    "sigmoid": {"gating": "sigmoid", "scale": 2.5},
    "sigmoid, bias": {"gating": "sigmoid", "bias": "choice", "normalize": True},
    "chosen": {"gating": "chosen"},
    "sparsemixer": {"gating": "sparsemixer", "jitter": 0.3},
    "groups": {"groups": 4, "groups_used": 2},
    "groups by their best": {"groups": 4, "groups_used": 2, "group_best": 1},
    "groups, all": {"gating": "sigmoid", "bias": "choice", "groups": 3, "groups_used": 1, "normalize": True},
}


@with_and_without_passes
@pytest.mark.parametrize("name", ROUTES)
def test_routes(tmp_path: Path, name: str, passes: Passes) -> None:
    check(tmp_path, lambda g: experts(g, g.linear(x_of(g), "router"), **ROUTES[name]), passes)


@pytest.mark.parametrize("precision", ["fast", "int8"])
def test_routes_in_both_regimes(tmp_path: Path, precision: str) -> None:
    check(tmp_path, lambda g: experts(g, g.linear(x_of(g), "router")), limit=1e-4, precision=precision)


# ---- Places ----


@pytest.mark.parametrize("dimensions", [2, 10, 16])
@pytest.mark.parametrize("halves", [False, True])
def test_rotations(tmp_path: Path, dimensions: int, halves: bool) -> None:
    turn = rope(dimensions, halves=halves)
    check(tmp_path, lambda g: g.rope(heads_of(g), turn))
    if dimensions == 16:
        check(tmp_path, lambda g: g.rope(heads_of(g), turn, "factors"))


@pytest.mark.parametrize("sections", [(3, 2, 1, 2), (2, 2, 2), (8,)])
@pytest.mark.parametrize("halves", [False, True])
def test_sections_turn_by_angles_of_their_own(
    tmp_path: Path, sections: tuple[int, ...], halves: bool
) -> None:
    turn = rope(16, halves=halves)
    tensors = {"x.weight": ARRAYS["x.weight"]}
    machine = Machine(tmp_path, lambda g: g.rope(heads_of(g), turn, sections=sections), tensors)
    angles = np.random.default_rng(1).integers(0, 30, (4, 20))
    got = machine.run([Span(machine.new_sequence(), TEXT[:20], logits="last")], angle=angles)
    want = reference.compute(machine.graph.nodes, machine.output, tensors, TEXT[:20], angles=angles)
    assert nmse(got, want[-1:].reshape(1, -1)) < 1e-9


# ---- State ----


def attend(g: Graph, window: int | None = None, **options: object) -> Value:
    """Four heads of queries, two of keys and values, of different widths."""
    k, v = g.linear(x_of(g), "w")[:32].view(2, 16), g.linear(x_of(g), "w")[28:].view(2, 10)
    return g.attention(heads_of(g) * 2.0, g.keep(k, v, window), **options)  # type: ignore[arg-type]


ATTENTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "scale": {"scale": 0.1},
    "softcap": {"softcap": 1.5},
    "sinks": {"sinks": "sinks"},
    "slopes": {"max_bias": 3.0},
    "slopes, window, softcap": {"max_bias": 8.0, "window": 9, "softcap": 2.0},
    "window": {"window": 5},
    "window of one": {"window": 1},
    "window, sinks, softcap": {"window": 9, "sinks": "sinks", "softcap": 2.0},
    "temperature": {"temperature": 0.5, "temperature_length": 7},
    "temperature, offset": {"temperature": 0.5, "temperature_length": 7, "temperature_offset": 3},
    "chunks": {"chunk": 11},
}


@with_and_without_passes
@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(tmp_path: Path, name: str, passes: Passes) -> None:
    check(tmp_path, lambda g: attend(g, **ATTENTIONS[name]), passes)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"sinks": "sinks"}, {"window": 6}, {"max_bias": 2.0}], ids=str)
def test_attention_that_sees_what_follows(tmp_path: Path, options: dict[str, object]) -> None:
    def build(g: Graph) -> Value:
        return attend(g, causal=False, **options)  # type: ignore[arg-type]

    tensors = {name: ARRAYS[name] for name in used(build)}
    machine = Machine(tmp_path, build, tensors)
    texts = [TEXT[:9], TEXT[9:10], TEXT[10:40]]
    got = machine.run([Span(machine.new_sequence(), text, logits="all") for text in texts])
    want = [reference.compute(machine.graph.nodes, machine.output, tensors, text) for text in texts]
    assert nmse(got, np.concatenate(want).reshape(len(got), -1)) < 1e-9


RECURRENT: dict[str, Build] = {
    "conv": lambda g: g.conv(x_of(g), "conv"),
    "conv over two places": lambda g: g.conv(x_of(g), "short"),
    "scan": lambda g: scan(g, "a"),
    "scan with a decay for each": lambda g: scan(g, "a_each"),
    "delta rule": delta_rule,
}


@with_and_without_passes
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_state(tmp_path: Path, name: str, passes: Passes) -> None:
    check(tmp_path, RECURRENT[name], passes)
