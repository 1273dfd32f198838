"""All stores of a model: which there are comes from its nodes."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import Any

from ggufpy._kernels import ffi
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Conv, DeltaRule, Keep, Scan
from ggufpy.runtime.state.pages import PAGE, LayerShape, Pages, pages_of_window
from ggufpy.runtime.state.sequence import Sequence
from ggufpy.runtime.state.slots import Slots
from ggufpy.runtime.state.store import Store


class States:
    """The state of all layers: pages for each window that there is, and slots for recurrent ops.

    types: of keys and values. n_ctx: positions of a sequence; n_seq: sequences that there is room for;
    n_batch: rows computed together. Raises ContextError if there is no memory.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        types: tuple[GGMLType, GGMLType],
        *,
        n_ctx: int,
        n_seq: int,
        n_batch: int,
    ) -> None:
        self._limit = n_ctx
        self._layers: dict[Value, tuple[int, int]] = {}  # what Keep makes -> store, layer within it
        self._ops: dict[Value, tuple[int, int]] = {}
        self._stores: list[Store] = []
        nodes = list(nodes)
        keeps = [node for node in nodes if isinstance(node, Keep)]
        full = n_seq * -(-n_ctx // PAGE)
        for window in dict.fromkeys(node.window for node in keeps):
            members = [node for node in keeps if node.window == window]
            n_pages = full if window is None else min(full, n_seq * pages_of_window(window, n_batch))
            for i, node in enumerate(members):
                self._layers[node.outputs[0]] = len(self._stores), i
            shapes = [LayerShape(node.k.shape[0], node.k.shape[1], node.v.shape[1]) for node in members]
            self._stores.append(Pages(shapes, n_pages, *types, window))
        ops = [node for node in nodes if isinstance(node, Conv | Scan | DeltaRule)]
        if ops:
            self._ops = {node.outputs[0]: (len(self._stores), i) for i, node in enumerate(ops)}
            self._stores.append(Slots([_floats(node) for node in ops], n_seq))

        # The gg_state records of a batch; only their first and entry change.
        self.records = ffi.new("gg_state[]", len(self._stores))
        for store, record in zip(self._stores, self.records, strict=True):
            store.describe(record)

    def __len__(self) -> int:
        return len(self._stores)

    def describe_pages(self, record: Any, kept: Value) -> None:
        """Fill a gg_cache for what a Keep node makes."""
        record.state, layer = self._layers[kept]
        store = self._stores[record.state]
        assert isinstance(store, Pages)
        store.describe_layer(record, layer)

    def describe_slots(self, record: Any, node: Node) -> None:
        """Fill a gg_slots for a recurrent node."""
        record.state, op = self._ops[node.outputs[0]]
        store = self._stores[record.state]
        assert isinstance(store, Slots)
        store.describe_op(record, op)

    def new_sequence(self) -> Sequence:
        """An empty sequence."""
        return Sequence(self, [store.open() for store in self._stores], self._limit)

    def bytes_read(self, position: int) -> int:
        """Bytes of state that a row at `position` reads."""
        return sum(store.bytes_read(position) for store in self._stores)

    def columns(self, sequences: Items[Sequence]) -> list[tuple[list[int], list[int]]]:
        """What a batch tells C of each store: where each sequence's places begin, and all places."""
        result = []
        for number in range(len(self._stores)):
            first, entry = [0], []
            for sequence in sequences:
                entry += sequence.holds[number].columns()
                first.append(len(entry))
            result.append((first, entry))
        return result


def _floats(node: Conv | Scan | DeltaRule) -> int:
    """What a recurrent node remembers of a sequence."""
    match node:
        case Conv(x=x, size=size):
            return x.width * (size - 1)
        case Scan(x=x, b=b):
            return x.width * b.shape[1]
        case DeltaRule(q=q, v=v):
            return v.width * q.shape[1]
