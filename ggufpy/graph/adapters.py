"""Adapters: a traced graph is rewritten so that some linears get a product of low rank added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ggufpy.errors import UnsupportedModelError
from ggufpy.graph.nodes import Affine, Binary, Linear, Matrix
from ggufpy.graph.trace import Graph
from ggufpy.graph.values import Node, Value


@dataclass(frozen=True, slots=True)
class Adapter:
    """y = W x becomes y = W x + scale * up (down x).

    tensor: W, (outputs, inputs). down: a tensor (rank, inputs), up: (outputs, rank).
    Source: LoRA (arXiv 2106.09685).
    """

    tensor: str
    down: str
    up: str
    rank: int
    scale: float


def adapt(graph: Graph, adapters: Iterable[Adapter]) -> None:
    """Rewrite `graph`; the planner sees nothing special.

    Raises UnsupportedModelError for an adapter of a tensor that no plain linear uses.
    """
    rest = {adapter.tensor: adapter for adapter in adapters}
    nodes: list[Node] = []
    for node in graph.nodes:
        adapter = None
        if isinstance(node, Linear) and node.route is None and not node.per_head:
            adapter = rest.pop(node.matrices[0].tensor, None)
        nodes += [node] if adapter is None else _adapted(node, adapter)
    if rest:
        name = next(iter(rest))
        raise UnsupportedModelError(
            f"{graph.keys.source}: an adapter is for '{name}', which no linear of this model uses"
        )
    graph.nodes[:] = nodes


def _adapted(node: Node, adapter: Adapter) -> list[Node]:
    assert isinstance(node, Linear)
    (y,) = node.outputs
    base, raised, scaled = (Value(y.shape, y.graph) for _ in range(3))
    lowered = Value((adapter.rank,), y.graph)
    return [
        replace(node, outputs=(base,)),
        Linear(outputs=(lowered,), x=node.x, matrices=(Matrix(adapter.down, None),)),
        Linear(outputs=(raised,), x=lowered, matrices=(Matrix(adapter.up, None),)),
        Affine(outputs=(scaled,), x=raised, factor=adapter.scale, offset=0.0),
        Binary(outputs=(y,), x=base, y=scaled, function="add"),
    ]
