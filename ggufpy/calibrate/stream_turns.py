"""What changes in a network when its residual stream is turned by an orthogonal matrix, and if it can be.

Layers add to the stream, and read it through norms by the root of the mean square, which a rotation does not
change. So embeddings and what linears add are turned, and linears that read it turn it back; the weights of
the norms go into these linears first. It is read off the traced graph, whatever the architecture is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ggufpy.calibrate.folding import Places
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Affine, Binary, Copy, Embed, Linear, Norm, Total, Vector, View


@dataclass(slots=True)
class Turns:
    """Tensors that a rotation R of the stream, (width, width), changes.

    columns: W becomes (W * gain) R, gain the tensor of a norm or None. rows: R^T W, for each expert; biases:
    b R; gains: all ones.
    """

    width: int = 0
    columns: dict[str, str | None] = field(default_factory=dict)
    rows: set[str] = field(default_factory=set)
    biases: set[str] = field(default_factory=set)
    gains: set[str] = field(default_factory=set)

    def tensors(self) -> set[str]:
        """All that change."""
        return {*self.columns, *self.rows, *self.biases, *self.gains}


def turns_of(nodes: Sequence[Node], logits: Value, shapes: Mapping[str, tuple[int, ...]]) -> Turns:
    """What turning the stream of a traced network changes, if `logits` shall stay.

    Raises UnsupportedModelError, which says why, for networks that would compute something else then.
    """
    return _Search(nodes, logits, shapes).turns


class _Search:
    """Follows what is turned: `values`, and the norm's weight by which they have to be multiplied yet."""

    def __init__(self, nodes: Sequence[Node], logits: Value, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._places, self._shapes = Places(nodes, shapes), shapes
        self._makers = {value: node for node in nodes for value in node.outputs}
        self._values: dict[Value, str | None] = {}
        self.turns = Turns()
        needed = self._needed(nodes, logits)
        known = -1
        while known < len(self._values):  # what has to be turned may be read earlier
            known = len(self._values)
            for node in needed:
                self._through(node)
        if logits in self._values:
            raise _refused("its result is the stream itself")
        for name in self.turns.tensors():
            if not self._places.are_own(name):
                tied = isinstance(self._makers[logits], Linear) and name in self.turns.columns
                raise _refused("its output is its embedding" if tied else f"{name} is used twice")

    def _needed(self, nodes: Sequence[Node], logits: Value) -> list[Node]:
        values = {logits}
        found = []
        for node in reversed(nodes):
            if values.intersection(node.outputs) or not node.outputs:
                values.update(node.inputs)
                found.append(node)
        return found[::-1]

    def _through(self, node: Node) -> None:
        if isinstance(node, Embed):
            self.turns.width = self.turns.width or node.outputs[0].width
            self.turns.columns[node.tensor] = None
            return self._turn(node.outputs[0])
        turned = [value for value in node.inputs if value in self._values]
        if not turned:
            return None
        if isinstance(node, Linear) and turned == [node.x] and not node.per_head:
            for matrix in node.matrices:
                self.turns.columns[matrix.tensor] = self._values[node.x]
            return None
        if any(self._values[value] for value in turned):
            raise _refused(f"{_named(node)} reads what a norm makes")
        if isinstance(node, Norm):
            return self._norm(node)
        if isinstance(node, Binary) and node.function == "add":
            return self._require(node.outputs[0])
        if self._alone(node) not in turned:
            raise _refused(f"{_named(node)} reads the stream")
        return self._turn(node.outputs[0])

    def _turn(self, value: Value, gain: str | None = None) -> None:
        if value.shape[-1] != self.turns.width:
            raise _refused(f"its values have {value.shape[-1]} channels, its stream {self.turns.width}")
        self._values[value] = gain

    def _norm(self, node: Norm) -> None:
        if node.size != "rms" or node.bias:
            raise _refused("its norms take off the mean, or have a bias")
        if node.weight:
            self.turns.gains.add(node.weight)
        self._turn(node.outputs[0], node.weight)

    def _alone(self, node: Node) -> Value | None:
        """The value that a node is linear in, channel by channel alike."""
        if isinstance(node, Copy | Total | View):
            return node.x
        if isinstance(node, Affine) and node.offset == 0 and math.isinf(node.low) and math.isinf(node.high):
            return node.x
        if isinstance(node, Vector) and node.function == "mul" and math.prod(self._shapes[node.tensor]) == 1:
            return node.x
        if isinstance(node, Binary) and node.function == "mul" and node.y.shape[-1] == 1:
            return node.x
        return None

    def _require(self, value: Value) -> None:
        """Turn what is added to the stream, back to the linears that make it."""
        if value in self._values:
            if self._values[value]:
                raise _refused("what a norm makes is added")
            return
        node = self._makers[value]
        source = self._alone(node)
        if isinstance(node, Linear) and node.gate is None and not node.per_head:
            self.turns.rows.update(matrix.tensor for matrix in node.matrices)
            self.turns.biases.update(matrix.bias for matrix in node.matrices if matrix.bias)
        elif isinstance(node, Binary) and node.function == "add":
            self._require(node.x)
            self._require(node.y)
        elif source is not None:
            self._require(source)
        elif isinstance(node, Norm):
            raise _refused("norms stand between its layers' results and the stream")
        else:
            raise _refused(f"{_named(node)} adds to the stream")
        self._turn(value)


def _named(node: Node) -> str:
    return f"a node {type(node).__name__}"


def _refused(reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"the residual stream of this model cannot be turned: {reason}")
