"""Where a network can be scaled channel by channel and compute the same.

What linears read is made by something whose channels can be divided by any positive numbers: the weight of
a norm, the rows of an earlier linear. If the columns of all that read it are multiplied by the same numbers,
nothing changes but how well weights and activations can be rounded. Where that is so is read off the traced
graph, whatever the architecture is: from each maker the scales are followed through the nodes until linears
take them back, and where something else would see them, there is no fold.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.scaled_values import Blocked, Change, Flow, Ids, Scaled
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Linear, Norm, Slice, View
from ggufpy.runtime.stages import tensors_of

Shapes = Mapping[str, tuple[int, ...]]
Scales = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """`size` positive numbers that a network can be scaled by, and which tensors change then.

    value: what is divided by them, read by `linears`. makers are divided by them, consumers are multiplied.
    after_norm: whether a norm's weight makes the value, not a linear.
    """

    value: Value
    size: int
    makers: tuple[Change, ...]
    consumers: tuple[Change, ...]
    linears: tuple[Linear, ...]
    after_norm: bool

    def columns(self, tensor: str) -> Ids:
        """Which scale each column of a consumer takes, -1 for none: (inputs,), or with heads or experts."""
        return next(change.ids for change in self.consumers if change.tensor == tensor)

    def changes(self) -> Iterator[Change]:
        """Of all tensors."""
        yield from self.makers
        yield from self.consumers


def folds_of(nodes: Sequence[Node], outputs: Iterable[Value], shapes: Shapes) -> list[Fold]:
    """The folds of a traced network, in the order of their makers, no column in two of them.

    outputs: what must stay as it is. shapes: of the tensors.
    """
    places, readers = Places(nodes, shapes), readers_of(nodes)
    found: list[Fold] = []
    taken: dict[str, Ids] = {}
    for index, node in enumerate(nodes):
        for start in _starts(node, places, readers):
            try:
                flow = Flow(nodes, index, start, places, readers, frozenset(outputs))
            except Blocked:
                continue
            fold = _fold(flow, start, after_norm=isinstance(node, Norm))
            if fold is not None and not _overlaps(fold, taken):
                found.append(fold)
    return found


class Places:
    """Tensors by name: their shapes, and which of them only one node has, so that they may change."""

    def __init__(self, nodes: Iterable[Node], shapes: Shapes) -> None:
        self.shapes = shapes
        self._uses = Counter(name for node in nodes for name in set(tensors_of(node)))

    def are_own(self, *names: str | None) -> bool:
        """Whether nothing else uses these."""
        return all(name is None or self._uses[name] == 1 for name in names)


def readers_of(nodes: Iterable[Node]) -> Mapping[Value, list[Node]]:
    """The nodes that read each value."""
    readers: dict[Value, list[Node]] = defaultdict(list)
    for node in nodes:
        for value in dict.fromkeys(node.inputs):
            readers[value].append(node)
    return readers


def _starts(node: Node, places: Places, readers: Mapping[Value, list[Node]]) -> Iterator[Scaled]:
    """What a maker's output can be scaled by: all of it, and the parts that others read of it."""
    whole = None
    if isinstance(node, Norm):
        whole = _norm(node, places)
    elif isinstance(node, Linear) and node.gate is None and node.add is None and len(node.matrices) == 1:
        whole = _linear(node, places)
    if whole is None:
        return
    yield whole
    for part in _parts(node.outputs[0], whole.ids, readers):
        ids = np.where(np.isin(whole.ids, part), whole.ids, -1)
        experts = places.shapes[whole.changes[0].tensor][0] if whole.route else 1
        own = part.reshape(-1) + whole.stride * np.arange(experts)[:, None]
        yield replace(whole, ids=ids, changes=tuple(change.only(own) for change in whole.changes))


def _norm(node: Norm, places: Places) -> Scaled | None:
    if node.weight is None or not places.are_own(node.weight, node.bias):
        return None
    own = np.arange(math.prod(places.shapes[node.weight])).reshape(places.shapes[node.weight])
    names = [name for name in (node.weight, node.bias) if name]
    changes = tuple(Change(name, own, -1.0) for name in names)
    return Scaled(np.broadcast_to(own, node.outputs[0].shape), changes)


def _linear(node: Linear, places: Places) -> Scaled | None:
    """Rows of its matrix, and its bias; those of each expert apart, as they go on to the same one."""
    (matrix,) = node.matrices
    if not places.are_own(matrix.tensor, matrix.bias) or len(places.shapes[matrix.tensor]) < 2:
        return None
    rows = places.shapes[matrix.tensor][:-1]
    own = np.arange(math.prod(rows)).reshape(rows)
    changes = [Change(matrix.tensor, own[..., None], -1.0)]
    if matrix.bias:
        changes.append(Change(matrix.bias, own, -1.0))
    if node.route is None:
        return Scaled(own.reshape(node.outputs[0].shape), tuple(changes))
    return Scaled(np.broadcast_to(own[0], node.outputs[0].shape), tuple(changes), node.route, rows[1])


def _parts(value: Value, ids: Ids, readers: Mapping[Value, list[Node]]) -> Iterator[Ids]:
    for node in readers.get(value, ()):
        if isinstance(node, View):
            yield from _parts(node.outputs[0], ids.reshape(node.outputs[0].shape), readers)
        elif isinstance(node, Slice):
            yield ids[..., node.start : node.start + node.outputs[0].shape[-1]]


def _fold(flow: Flow, start: Scaled, *, after_norm: bool) -> Fold | None:
    """With scales as consumers take them, numbered from 0; those that no consumer takes are left out."""
    if not flow.linears or len(flow.powers) != 1:
        return None
    (power,) = flow.powers
    used = np.unique(np.concatenate([change.ids.reshape(-1) for change in flow.consumers]))
    used = used[used >= 0]
    numbers = np.full(int(max(used.max(), *(change.ids.max() for change in flow.makers))) + 1, -1)
    numbers[used] = np.arange(used.size)
    makers, consumers = (
        tuple(replace(each, ids=_renumbered(each.ids, numbers), power=each.power / power) for each in changes)
        for changes in (flow.makers, flow.consumers)
    )
    return Fold(flow.linears[0].x, used.size, makers, consumers, tuple(flow.linears), after_norm)


def _renumbered(ids: Ids, numbers: Ids) -> Ids:
    return np.where(ids < 0, -1, numbers[np.maximum(ids, 0)])


def _overlaps(fold: Fold, taken: dict[str, Ids]) -> bool:
    """Whether a fold scales columns that an earlier one does; else they are noted."""
    if any(
        ((taken[change.tensor] >= 0) & (change.ids >= 0)).any()
        for change in fold.consumers
        if change.tensor in taken
    ):
        return True
    for change in fold.consumers:
        taken[change.tensor] = np.maximum(taken.get(change.tensor, np.int64(-1)), change.ids)
    return False
