"""A network cut into stages, one after the other: each reads rows of the residual stream, and leaves them.

Where one value alone crosses from a layer to the next, the layer runs by itself. So what calibrates a network
needs the rows of one place, and the weights of one layer at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import LASTING, Embed, Linear, Matrix

_WHOLE = "layers of this architecture do not run by themselves: use an importance matrix instead"


@dataclass(frozen=True, slots=True)
class Stage:
    """A layer: its nodes, what it reads, and what it leaves for the next one.

    nodes: also those before it that depend on no token, as tables of rotary angles; the first is an embedding
    whose rows are given, in place of the value that the layer reads.
    """

    nodes: tuple[Node, ...]
    reads: Value
    leaves: Value

    def linears(self) -> list[Linear]:
        """In their order."""
        return [node for node in self.nodes if isinstance(node, Linear)]


def stages(nodes: Sequence[Node]) -> list[Stage]:
    """The layers of a traced network; raises UnsupportedModelError where more than one value crosses."""
    starts, fixed = _boundaries(nodes), _fixed(nodes)
    streams = [_crossing(nodes, start, fixed, number) for number, start in enumerate(starts)]
    return [
        _stage(nodes, slice(*starts[layer : layer + 2]), fixed, *streams[layer : layer + 2])
        for layer in range(len(starts) - 1)
    ]


def before_and_behind(nodes: Sequence[Node], output: Value) -> tuple[Sequence[Node], Stage]:
    """What is before the layers, and what makes `output` of what the last one leaves; raises as `stages`."""
    starts, fixed = _boundaries(nodes), _fixed(nodes)
    reads = _crossing(nodes, starts[-1], fixed, len(starts) - 1)
    return nodes[: starts[0]], _stage(nodes, slice(starts[-1], None), fixed, reads, output)


def tensors_of(node: Node) -> Iterator[str]:
    """The tensors that a node names."""
    for field in fields(node):
        value: Any = getattr(node, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Matrix):
                yield from (name for name in (each.tensor, each.bias) if name)
            elif isinstance(each, str):
                yield each


def _is_no_layers(name: str) -> bool:
    return "." in name and not name.startswith("blk.")


def _boundaries(nodes: Sequence[Node]) -> list[int]:
    """The first node of each layer, and of what is behind the last."""
    starts = list(_starts(nodes))
    if not starts:
        raise UnsupportedModelError("the network has no layers that could run by themselves")
    behind = (i for i in range(starts[-1], len(nodes)) if any(map(_is_no_layers, tensors_of(nodes[i]))))
    return [*starts, next(behind, len(nodes))]


def _starts(nodes: Sequence[Node]) -> Iterator[int]:
    """The first node of each layer: the first that names a tensor of it."""
    layer = 0
    for i, node in enumerate(nodes):
        if any(name.startswith(f"blk.{layer}.") for name in tensors_of(node)):
            yield i
            layer += 1


def _fixed(nodes: Sequence[Node]) -> set[Value]:
    """Values that depend on no token."""
    fixed: set[Value] = set()
    for node in nodes:
        if not isinstance(node, Embed) and fixed.issuperset(node.inputs) and not isinstance(node, LASTING):
            fixed.update(node.outputs)
    return fixed


def _crossing(nodes: Sequence[Node], at: int, fixed: set[Value], layer: int) -> Value:
    made = {value for node in nodes[:at] for value in node.outputs} - fixed
    read = {value for node in nodes[at:] for value in node.inputs}
    crossing = made & read
    if len(crossing) != 1:
        problem = f"{len(crossing)} values cross to layer {layer}, not one"
        raise UnsupportedModelError(f"{problem}; {_WHOLE}")
    return crossing.pop()


def _stage(nodes: Sequence[Node], own: slice, fixed: set[Value], reads: Value, leaves: Value) -> Stage:
    before = [node for node in nodes[: own.start] if node.outputs and fixed.issuperset(node.outputs)]
    given = Value(reads.shape, reads.graph)
    embed = next(node for node in nodes if isinstance(node, Embed) and node.by == "token")

    def read(value: Value) -> Value:
        return given if value is reads else value

    first = replace(embed, outputs=(given,), rows="all")
    return Stage((first, *before, *(node.reading(read) for node in nodes[own])), reads, leaves)
