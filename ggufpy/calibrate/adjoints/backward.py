"""Nodes in reverse: from gradients at some values those at all values that they depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ggufpy.calibrate.adjoints import arithmetic, attention, experts, linear, places, rows, states
from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Node, Value
from ggufpy.graph import nodes as n

# Of each kind of node: what was passed, the node, and the gradients at its outputs, to those at its inputs.
ADJOINTS: Mapping[type[Node], Callable[..., Gradients]] = {
    n.View: rows.view,
    n.Slice: rows.slice_,
    n.Concat: rows.concat,
    n.Embed: rows.nothing,
    n.Copy: rows.copy,
    n.Pool: rows.pool,
    n.Linear: linear.linear,
    n.Norm: arithmetic.norm,
    n.Unary: arithmetic.unary,
    n.Binary: arithmetic.binary,
    n.Affine: arithmetic.affine,
    n.Vector: arithmetic.vector,
    n.Total: rows.total,
    n.Tap: rows.nothing,
    n.Route: experts.route,
    n.RopeTable: rows.nothing,
    n.Rotate: places.rotate,
    n.Keep: attention.keep,
    n.Attention: attention.attention,
    n.Conv: states.conv,
    n.Scan: states.scan,
    n.DeltaRule: states.delta_rule,
}

# Their values are made here of others, as the engine has them in other forms, or nowhere.
_DERIVED = (n.View, n.Slice, n.Concat, n.RopeTable, n.Keep)


def check(nodes: Sequence[Node]) -> None:
    """Raises UnsupportedModelError where a node has no adjoint."""
    for node in nodes:
        if type(node) not in ADJOINTS:
            kind = type(node).__name__
            raise UnsupportedModelError(f"the op {kind} has no gradient: use a method that needs none")


def measured(nodes: Sequence[Node]) -> Iterator[Value]:
    """The values that `passed_by` has to be given."""
    for node in nodes:
        if not isinstance(node, _DERIVED):
            yield from node.outputs


def passed_by(nodes: Sequence[Node], values: Mapping[Value, Array], weight: Callable[[str], Array]) -> Passed:
    """What nodes made of a context, by those values that are measured; each (tokens, *shape)."""
    every = dict(values)
    passed = Passed(nodes, every, weight)
    tokens = len(next(iter(values.values())))
    for node in nodes:
        if isinstance(node, _DERIVED):
            every[node.outputs[0]] = _derived(passed, node, tokens)
    return passed


def _derived(passed: Passed, node: Node, tokens: int) -> Array:
    match node:
        case n.View(x=x):
            return passed[x].reshape(len(passed[x]), *node.outputs[0].shape)
        case n.Slice(x=x, start=start):
            return passed[x][..., start : start + node.outputs[0].shape[-1]]
        case n.Concat(parts=parts):
            return np.concatenate([passed[part] for part in parts], axis=-1)
        case n.RopeTable():
            return places.rope_table(passed, node, tokens)
        case n.Keep():
            return attention.kept(passed, node)
        case _:
            raise AssertionError(node)


def backward(passed: Passed, gradients: Mapping[Value, Array]) -> dict[Value, Array]:
    """The gradients at all values that those given depend on, the given ones among them.

    gradients: (tokens, *shape) each. Weights are constants. Raises UnsupportedModelError as `check`.
    """
    check(passed.nodes)
    found: dict[Value, Array] = dict(gradients)
    for node in reversed(passed.nodes):
        own: list[Any] = [found.get(value) for value in node.outputs]
        if all(g is None for g in own):
            continue
        like = next(g for g in own if g is not None)
        for i, value in enumerate(node.outputs):
            if own[i] is None:
                own[i] = np.zeros((len(like), *value.shape), like.dtype)
        for value, g in ADJOINTS[type(node)](passed, node, *own):
            found[value] = found[value] + g if value in found else g
    return found
