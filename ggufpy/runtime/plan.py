"""Planning: the nodes that the outputs need, after the passes, and a place for each value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import (
    LASTING,
    Affine,
    Binary,
    Concat,
    Copy,
    Keep,
    Linear,
    Norm,
    Rotate,
    Route,
    Slice,
    Unary,
    Vector,
    View,
)
from ggufpy.runtime.passes import PASSES, Pass

# What they make may lie in parts, or where their first input lay.
_VALUE_BY_VALUE = (Affine, Binary, Norm, Rotate, Unary, Vector)


@dataclass(eq=False, slots=True)
class Buffer:
    """`width` floats per row. offset: where its rows lie in the arena, in floats per row of the program."""

    width: int
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value's rows lie: head h at first + h * stride of a row of the buffer, `width` floats."""

    buffer: Buffer
    first: int
    heads: int
    width: int
    stride: int

    @classmethod
    def whole(cls, buffer: Buffer, shape: tuple[int, ...]) -> Place:
        """All of a buffer, in the shape of a value."""
        return cls(buffer, 0, *_axes(shape))

    @property
    def is_flat(self) -> bool:
        """Whether the heads lie side by side."""
        return self.heads == 1 or self.stride == self.width

    def viewed(self, shape: tuple[int, ...]) -> Place:
        """The same floats in another shape; they lie side by side."""
        return Place(self.buffer, self.first, *_axes(shape))

    def part(self, start: int, width: int) -> Place:
        """Floats start .. start + width of each head."""
        return replace(self, first=self.first + start, width=width)


@dataclass(frozen=True, slots=True)
class Plan:
    """Nodes in order, where their values lie, and the floats per row of the arena that they share."""

    nodes: list[Node]
    places: dict[Value, Place]
    arena_width: int
    outputs: dict[str, Value]

    def linears(self) -> Iterator[tuple[str, bool, float]]:
        """The tensor of each linear, whether it is for wanted rows only, the part of it that a row needs."""
        experts = {node.outputs[0]: node.logits.width for node in self.nodes if isinstance(node, Route)}
        for node in self.nodes:
            if isinstance(node, Linear):
                part = node.route.shape[0] / experts[node.route] if node.route else 1.0
                for matrix in node.matrices:
                    yield matrix.tensor, node.rows != "all", part


def make_plan(
    traced: Sequence[Node],
    outputs: Mapping[str, Value],
    passes: Sequence[Pass] = PASSES,
    tap: Pass | None = None,
) -> Plan:
    """Plan what `outputs`, values of `traced` nodes, need; of rows of the batch only the wanted ones.

    tap: puts taps before linears; then only what these read is computed, of all rows, and there are no
    outputs.
    """
    rows = {value: node.rows for node in traced for value in node.outputs}
    nodes = list(traced)
    results: dict[str, Value] = {}
    for name, value in outputs.items():
        results[name] = value
        if rows[value] == "all":
            results[name] = Value(value.shape, value.graph)
            nodes.append(Copy(outputs=(results[name],), rows="wanted", x=value, picks=True))
    nodes = _needed(nodes, results.values())
    for each in passes:
        nodes = each(nodes, list(results.values()))
    if tap is not None:
        nodes, results = _needed(tap(nodes, []), ()), {}
    placed = _Placed(nodes, list(results.values()))
    return Plan(placed.nodes, placed.places, placed.arena_width(), results)


def _needed(nodes: list[Node], outputs: Iterable[Value]) -> list[Node]:
    """Only nodes that the outputs depend on, and those that keep state."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if isinstance(node, LASTING) or wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


class _Placed:
    """Nodes without views, which have become places, and the places of all values."""

    def __init__(self, nodes: list[Node], outputs: list[Value]) -> None:
        self.nodes: list[Node] = []
        self.places: dict[Value, Place] = {}
        self._outputs = outputs
        self._last_read = {value: i for i, node in enumerate(nodes) for value in node.inputs}
        self._last_read.update(dict.fromkeys(outputs, len(nodes)))
        self._sharing: defaultdict[Buffer, list[Value]] = defaultdict(list)
        self._makers = {value: node for node in nodes for value in node.outputs}
        for node in nodes:
            if isinstance(node, Concat):
                self._reserve_parts(node)
        for i, node in enumerate(nodes):
            self._place(i, node)

    def _reserve_parts(self, node: Concat) -> None:
        """Let the parts be made where they belong, if their nodes can do that."""
        whole = self.places.get(node.outputs[0]) or _new(node.outputs[0])
        self._put(node.outputs[0], whole)
        start = 0
        for value in node.parts:
            if isinstance(self._makers[value], _VALUE_BY_VALUE) and value not in self.places:
                self._put(value, whole.part(start, value.shape[-1]))
            start += value.shape[-1]

    def _place(self, i: int, node: Node) -> None:
        match node:
            case View(x=x):
                place = self.places[x]
                if not place.is_flat:
                    place = self._copy(node, x, _new(x))
                self._put(node.outputs[0], place.viewed(node.outputs[0].shape))
            case Slice(x=x, start=start):
                self._put(node.outputs[0], self.places[x].part(start, node.outputs[0].shape[-1]))
            case Concat(parts=parts):
                start = 0
                for value in parts:
                    place = self.places[node.outputs[0]].part(start, value.shape[-1])
                    if self.places[value] != place:
                        self._copy(node, value, place)
                    start += value.shape[-1]
            case _:
                for value in node.outputs:
                    if value not in self.places and not isinstance(node, Keep):
                        self._put(value, self._in_place(i, node) or _new(value))
                self.nodes.append(node)

    def _put(self, value: Value, place: Place) -> None:
        self.places[value] = place
        self._sharing[place.buffer].append(value)

    def _copy(self, node: Node, x: Value, to: Place) -> Place:
        copied = Value(x.shape, x.graph)
        self._put(copied, to)
        self.nodes.append(Copy(outputs=(copied,), rows=node.rows, x=x, picks=False))
        return to

    def _in_place(self, i: int, node: Node) -> Place | None:
        """The place of the first input, where the op may write there and nobody reads that buffer later."""
        if not isinstance(node, _VALUE_BY_VALUE):
            return None
        place = self.places[node.x]
        covers = place.first == 0 and place.is_flat and place.heads * place.width == place.buffer.width
        read_later = any(self._last_read.get(value, -1) > i for value in self._sharing[place.buffer])
        read_twice = any(self.places[value].buffer is place.buffer for value in node.inputs[1:])
        return place.viewed(node.x.shape) if covers and not read_later and not read_twice else None

    def arena_width(self) -> int:
        """Give buffers that are alive together places that do not overlap; return the width of them all."""
        lives: dict[Buffer, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for value in (*node.outputs, *node.inputs):
                if value in self.places:
                    lives.setdefault(self.places[value].buffer, []).append(i)
        for value in self._outputs:
            lives[self.places[value].buffer].append(len(self.nodes))
        alive: list[Buffer] = []
        width = 0
        for buffer, life in sorted(lives.items(), key=lambda item: item[1][0]):
            alive = [other for other in alive if lives[other][-1] >= life[0]]
            buffer.offset = 0
            for other in sorted(alive, key=lambda other: other.offset):
                if buffer.offset + buffer.width <= other.offset:
                    break
                buffer.offset = max(buffer.offset, other.offset + other.width)
            alive.append(buffer)
            width = max(width, buffer.offset + buffer.width)
        return width


def _new(value: Value) -> Place:
    return Place.whole(Buffer(value.width), value.shape)


def _axes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Heads, width and stride."""
    return (1, shape[0], shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[1])
