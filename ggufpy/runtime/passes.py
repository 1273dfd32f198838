"""Passes: each makes a list of nodes into one that computes the same in fewer or cheaper steps.

All are optional: a plan without them gives the same numbers. A pass may replace nodes, but the values that
others read stay the values they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import STATEFUL, Binary, Copy, Keep, Linear, Tap, Unary, View

MOST_TOGETHER = 3  # linears in one op, as gg_linear has room for

Nodes = list[Node]
Pass = Callable[[Nodes, Sequence[Value]], Nodes]


def gates(nodes: Nodes, outputs: Sequence[Value]) -> Nodes:
    """function(linear) * linear of the same input becomes one linear."""
    uses, makers = _uses(nodes, outputs), _makers(nodes)
    result: dict[Node, Node | None] = dict(zip(nodes, nodes, strict=True))
    for node in nodes:
        if not isinstance(node, Binary) or node.function != "mul":
            continue
        for gated, other in ((node.x, node.y), (node.y, node.x)):
            function, second = makers.get(gated), makers.get(other)
            first = makers.get(function.x) if isinstance(function, Unary) else None
            if (
                isinstance(function, Unary)
                and isinstance(first, Linear)
                and isinstance(second, Linear)
                and _alike(first, second)
                and all(uses[value] == 1 for value in (gated, other, function.x))
            ):
                matrices = first.matrices + second.matrices
                result[node] = replace(first, outputs=node.outputs, matrices=matrices, gate=function.function)
                result[first] = result[second] = result[function] = None
                break
    return [new for new in result.values() if new is not None]


def residuals(nodes: Nodes, outputs: Sequence[Value]) -> Nodes:
    """X + linear becomes one linear that adds."""
    uses, makers = _uses(nodes, outputs), _makers(nodes)
    result: dict[Node, Node | None] = dict(zip(nodes, nodes, strict=True))
    for node in nodes:
        if not isinstance(node, Binary) or node.function != "add" or node.x.shape != node.y.shape:
            continue
        for value, other in ((node.y, node.x), (node.x, node.y)):
            linear = makers.get(value)
            if isinstance(linear, Linear) and uses[value] == 1 and _may_add(linear):
                result[node] = replace(linear, outputs=node.outputs, add=other)
                result[linear] = None
                break
    return [new for new in result.values() if new is not None]


def together(nodes: Nodes, outputs: Sequence[Value]) -> Nodes:
    """Linears of one input become one op, so that the input is quantized once and threads meet once."""
    result: Nodes = []
    joined: set[Node] = set()
    for i, node in enumerate(nodes):
        if node in joined:
            continue
        if isinstance(node, Linear) and _may_join(node):
            group = [node]
            for other in nodes[i + 1 :]:
                if len(group) == MOST_TOGETHER:
                    break
                if isinstance(other, Linear) and _may_join(other) and _alike(node, other):
                    group.append(other)
            joined.update(group)
            result.append(
                replace(
                    node,
                    outputs=tuple(linear.outputs[0] for linear in group),
                    matrices=tuple(linear.matrices[0] for linear in group),
                )
            )
        else:
            result.append(node)
    return result


def wanted_rows(nodes: Nodes, outputs: Sequence[Value]) -> Nodes:
    """Nodes whose results are read for the wanted rows only work on those only.

    What is kept is kept of all rows; after the last node that keeps, few rows go on.
    """
    all_rows: set[Value] = set()
    result: Nodes = []
    for node in reversed(nodes):
        if node.rows != "all":
            if not (isinstance(node, Copy) and node.picks):
                all_rows.update(node.inputs)
            result.append(node)
            continue
        if isinstance(node, STATEFUL) or all_rows.intersection(node.outputs):
            all_rows.update(node.inputs)
            result.append(node)
        else:
            result.append(replace(node, rows="wanted"))
    return _picked(result[::-1])


def _picked(nodes: Nodes) -> Nodes:
    """Where a node of the wanted rows reads a value of all, their rows are picked out first."""
    rows = {value: node.rows for node in nodes for value in node.outputs}
    kept = {value for node in nodes if isinstance(node, Keep) for value in node.outputs}
    picked: dict[Value, Value] = {}
    result: Nodes = []

    def pick(value: Value) -> Value:
        if rows[value] != "all" or value in kept:
            return value
        if value not in picked:
            picked[value] = Value(value.shape, value.graph)
            result.append(Copy(outputs=(picked[value],), rows="wanted", x=value, picks=True))
        return picked[value]

    for node in nodes:
        if isinstance(node, Copy) and node.picks:
            picked_before = rows[node.x] == "wanted"
            result.append(View(outputs=node.outputs, rows="wanted", x=node.x) if picked_before else node)
        else:
            result.append(node.reading(pick) if node.rows == "wanted" else node)
    return result


def squares_tapped(nodes: Nodes, outputs: Sequence[Value]) -> Nodes:
    """With a tap before each linear that sums the squares of what it reads."""
    return _tapped(nodes, products=False)


def products_tapped(nodes: Nodes, outputs: Sequence[Value]) -> Nodes:
    """With a tap before each linear that sums x x^T of what it reads."""
    return _tapped(nodes, products=True)


def _tapped(nodes: Nodes, *, products: bool) -> Nodes:
    result: Nodes = []
    for node in nodes:
        if isinstance(node, Linear):
            tap = Tap(
                outputs=(),
                rows=node.rows,
                x=node.x,
                tensors=tuple(matrix.tensor for matrix in node.matrices),
                products=products,
                route=node.route,
                per_head=node.per_head,
            )
            result.append(tap)
        result.append(node)
    return result


# In this order.
PASSES: tuple[Pass, ...] = (gates, residuals, wanted_rows, together)

# Those that compute every row of every node.
UNSELECTIVE: tuple[Pass, ...] = (gates, residuals, together)


def _uses(nodes: Iterable[Node], outputs: Sequence[Value]) -> Counter[Value]:
    return Counter([*outputs, *(value for node in nodes for value in node.inputs)])


def _makers(nodes: Iterable[Node]) -> dict[Value, Node]:
    return {value: node for node in nodes for value in node.outputs}


def _may_join(linear: Linear) -> bool:
    return linear.gate is None and linear.add is None and len(linear.matrices) == 1 and not linear.per_head


def _may_add(linear: Linear) -> bool:
    return linear.add is None and (linear.gate is not None or len(linear.matrices) == 1)


def _alike(first: Linear, second: Linear) -> bool:
    """Whether two linears of one matrix each can be one op: the same input, rows and experts."""
    return (
        _may_join(first)
        and _may_join(second)
        and (first.x, first.route, first.rows) == (second.x, second.route, second.rows)
    )
