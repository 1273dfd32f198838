"""Planning: a traced graph becomes a list of fused steps on buffers.

Fusion happens here once for every architecture: linears of one input run as one step, silu(gate) * up and the
sum with the residual are part of the linear that makes them. After the last attention only the rows whose
logits are wanted go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ggufpy.errors import UnsupportedModelError
from ggufpy.graph.hyperparameters import Rope
from ggufpy.graph.trace import Add, Attention, Embed, Graph, Linear, Mul, Node, RMSNorm, Rotate, Silu

MAX_TOGETHER = 3  # linears in one step, as gg_op has room for


@dataclass(eq=False, slots=True)
class Value:
    """What a step makes: `width` floats per row. offset: where its rows lie in the arena, in floats."""

    width: int
    offset: int = -1


@dataclass(eq=False, slots=True)
class Step:
    """One op of the program. out_rows: it runs on the rows whose logits are wanted only."""

    src: list[Value]
    dst: list[Value]
    out_rows: bool = field(default=False, kw_only=True)

    def replace(self, old: Value, new: Value) -> None:
        """Read `new` wherever the step reads `old`."""
        self.src = [new if v is old else v for v in self.src]


@dataclass(eq=False, slots=True)
class EmbedStep(Step):
    """Rows of a tensor by token id."""

    tensor: str


@dataclass(eq=False, slots=True)
class RopeTableStep(Step):
    """Cosines and sines for the rows' positions."""

    rope: Rope
    factors: str | None


@dataclass(eq=False, slots=True)
class NormStep(Step):
    """Root mean square norm."""

    tensor: str
    epsilon: float


@dataclass(eq=False, slots=True)
class LinearStep(Step):
    """Up to three linears of one input; gated: silu(first) * second; src[1], if there, is added."""

    linears: list[Linear]
    gated: bool = False


@dataclass(eq=False, slots=True)
class RotateStep(Step):
    """Rotary embedding in place: dst is src[0]; src[1] is the table."""

    node: Rotate


@dataclass(eq=False, slots=True)
class AttentionStep(Step):
    """Attention over the KV cache; src: q, k, v."""

    node: Attention


@dataclass(eq=False, slots=True)
class GatherStep(Step):
    """The rows whose logits are wanted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, the floats per row of the arena that they share, and where the logits are."""

    steps: list[Step]
    arena_width: int
    output: Value

    def linears(self) -> Iterable[tuple[str, bool]]:
        """The tensor of each linear, and whether it is for rows whose logits are wanted only."""
        for step in self.steps:
            if isinstance(step, LinearStep):
                yield from ((linear.tensor, step.out_rows) for linear in step.linears)


def make_plan(graph: Graph, output: Node) -> Plan:
    """Plan the traced `graph`, whose result is `output`."""
    planner = _Planner(graph, output)
    steps = planner.steps()
    _keep_wanted_rows(steps)
    result = steps[-1].dst[0]
    return Plan(steps, _place(steps, result), result)


class _Planner:
    def __init__(self, graph: Graph, output: Node) -> None:
        self._graph = graph
        self._uses = Counter(source for node in graph.nodes for source in node.inputs)
        self._uses[output] += 1
        self._values: dict[Node, Value] = {}
        self._tables: dict[tuple[Rope, str | None], Value] = {}
        self._fused: dict[Node, list[Node]] = {}  # node that ends a fused step -> what it takes in
        self._absorbed: set[Node] = set()

    def steps(self) -> list[Step]:
        """All steps, in the order of the code."""
        for node in self._graph.nodes:
            taken = self._takes_in(node)
            self._fused[node] = taken
            self._absorbed.update(taken)
        steps: list[Step] = []
        for node in self._graph.nodes:
            if node not in self._absorbed and node not in self._values:
                steps.extend(self._step(node))
        return steps

    def _takes_in(self, node: Node) -> list[Node]:
        """The nodes that a Mul or Add runs together with, or nothing."""
        if isinstance(node, Mul):
            silus = [n for n in node.inputs if isinstance(n, Silu)]
            if len(silus) == 1:
                gate, up = silus[0].inputs[0], next(n for n in node.inputs if n is not silus[0])
                if isinstance(gate, Linear) and isinstance(up, Linear) and gate.inputs == up.inputs:
                    taken: list[Node] = [gate, up, silus[0]]
                    return taken if all(self._uses[n] == 1 for n in taken) else []
        if isinstance(node, Add):
            for linear in reversed(node.inputs):
                if isinstance(linear, Linear) and self._uses[linear] == 1:
                    return [linear]
        return []

    def _value(self, node: Node) -> Value:
        return self._values.setdefault(node, Value(node.width))

    def _step(self, node: Node) -> Iterable[Step]:
        match node:
            case Embed(tensor=tensor):
                yield EmbedStep([], [self._value(node)], tensor)
            case RMSNorm(tensor=tensor, epsilon=epsilon):
                yield NormStep([self._values[node.inputs[0]]], [self._value(node)], tensor, epsilon)
            case Linear():
                yield self._together(node)
            case Mul() | Add() if self._fused[node]:
                yield self._fused_step(node)
            case Rotate():
                yield from self._rotate(node)
            case Attention():
                yield AttentionStep([self._values[n] for n in node.inputs], [self._value(node)], node)
            case _:
                raise UnsupportedModelError(f"{type(node).__name__} cannot be run on its own yet")

    def _together(self, first: Linear) -> LinearStep:
        """`first` and the linears after it that read the same input."""
        same = [
            n
            for n in self._graph.nodes
            if isinstance(n, Linear) and n.inputs == first.inputs and n not in self._absorbed
        ]
        start = same.index(first)
        linears = same[start : start + MAX_TOGETHER]
        return LinearStep([self._values[first.inputs[0]]], [self._value(n) for n in linears], linears)

    def _fused_step(self, node: Node) -> LinearStep:
        linears = [n for n in self._fused[node] if isinstance(n, Linear)]
        src = [self._values[linears[0].inputs[0]]]
        if isinstance(node, Add):
            other = next(n for n in node.inputs if n is not linears[0])
            src.append(self._values[other])
        return LinearStep(src, [self._value(node)], linears, gated=isinstance(node, Mul))

    def _rotate(self, node: Rotate) -> Iterable[Step]:
        if self._uses[node.inputs[0]] != 1:
            raise UnsupportedModelError("a value that is rotated in place cannot be read again")
        key = (node.rope, node.factors)
        if key not in self._tables:
            self._tables[key] = Value(node.rope.dimensions)
            yield RopeTableStep([], [self._tables[key]], *key)
        value = self._values[node] = self._values[node.inputs[0]]
        yield RotateStep([value, self._tables[key]], [value], node)


def _keep_wanted_rows(steps: list[Step]) -> None:
    """After the last attention, go on with the rows whose logits are wanted."""
    last = max(i for i, step in enumerate(steps) if isinstance(step, AttentionStep))
    made = {value for step in steps[: last + 1] for value in step.dst}
    gathers: dict[Value, GatherStep] = {}
    for step in steps[last + 1 :]:
        step.out_rows = True
        for value in step.src:
            if value in made:
                gather = gathers.setdefault(value, GatherStep([value], [Value(value.width)], out_rows=True))
                step.replace(value, gather.dst[0])
    steps[last + 1 : last + 1] = gathers.values()


def _place(steps: list[Step], result: Value) -> int:
    """Give values that are alive together places that do not overlap; return the width of them all."""
    last_use = {value: i for i, step in enumerate(steps) for value in (*step.dst, *step.src)}
    last_use[result] = len(steps)
    alive: list[Value] = []
    width = 0
    for i, step in enumerate(steps):
        alive = [value for value in alive if last_use[value] >= i]
        for value in step.dst:
            if value.offset >= 0:
                continue  # in place
            value.offset = 0
            for other in sorted(alive, key=lambda v: v.offset):
                if value.offset + value.width <= other.offset:
                    break
                value.offset = max(value.offset, other.offset + other.width)
            alive.append(value)
            width = max(width, value.offset + value.width)
    return width
