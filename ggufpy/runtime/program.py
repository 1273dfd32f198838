"""A plan as the flat records that csrc executes, with all memory that they point into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.gguf.reader import TensorInfo
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Linear
from ggufpy.runtime.plan import Buffer, Place, Plan
from ggufpy.runtime.records import Memory, aligned, fill
from ggufpy.runtime.state import States

PRECISIONS = {"fast": lib.GG_FAST, "exact": lib.GG_EXACT, "int8": lib.GG_INT8}
_ROWS = {"all": lib.GG_ROWS_ALL, "wanted": lib.GG_ROWS_WANTED, "texts": lib.GG_ROWS_TEXTS}


class Program:
    """A runnable plan.

    record: the gg_program. outputs: the rows that a run leaves, by name; rows: which these are. taps: what
    linears have read, by their tensors.
    """

    def __init__(
        self,
        plan: Plan,
        tensors: Mapping[str, TensorInfo],
        states: States,
        *,
        max_rows: int,
        n_threads: int,
        precision: str,
    ) -> None:
        self._memory = Memory(tensors, states, max_rows)
        self._plan = plan
        buffers = list(
            dict.fromkeys(place.buffer for place in plan.places.values() if place.buffer.offset >= 0)
        )
        self._numbers: dict[Buffer, int] = {buffer: i for i, buffer in enumerate(buffers)}
        ops = self._memory.keep(ffi.new("gg_op[]", len(plan.nodes)))
        for op, node in zip(ops, plan.nodes, strict=True):
            self._fill(op, node)
        table = ffi.new("gg_buffer[]", [(buffer.offset * max_rows, buffer.width) for buffer in buffers])
        arena = aligned(4 * plan.arena_width * max_rows).view(np.float32)
        self.record = record = ffi.new("gg_program *")
        record.ops, record.n_ops = ops, len(plan.nodes)
        record.buffers, record.n_buffers = self._memory.keep(table), len(buffers)
        record.n_states = len(states)
        record.precision, record.max_rows = PRECISIONS[precision], max_rows
        record.arena, record.arena_floats = self._memory.pointer("float[]", arena), arena.size
        self._allocate(n_threads)
        self.taps = self._memory.taps
        makers = {value: node for node in plan.nodes for value in node.outputs}
        self.rows = {
            name: makers[value].rows if value in makers else "wanted" for name, value in plan.outputs.items()
        }
        self.outputs = {
            name: _rows(arena, plan.places[value], max_rows) for name, value in plan.outputs.items()
        }

    def _allocate(self, n_threads: int) -> None:
        record, sizes = self.record, ffi.new("size_t[2]")
        lib.gg_needs(record, sizes, sizes + 1)
        record.scratch_floats, record.shared_bytes = sizes[0], sizes[1]
        record.scratch = self._memory.floats(sizes[0] * n_threads)
        record.shared = self._memory.pointer("uint8_t[]", aligned(sizes[1]))

    def _fill(self, op: Any, node: Node) -> None:
        fill(op, node, self._memory)
        op.rows = _ROWS[node.rows]
        for views in (op.src, op.dst):
            for view in views:
                view.buffer = -1
        # A linear's second input is what it adds; the experts' weights are told by its lists.
        inputs = [node.x, node.add] if isinstance(node, Linear) else node.inputs
        for views, values in ((op.src, inputs), (op.dst, node.outputs)):
            for view, value in zip(views, (v for v in values if v in self._plan.places), strict=False):
                self._view(view, value)

    def _view(self, view: Any, value: Value) -> None:
        place = self._plan.places[value]
        view.buffer, view.first = self._numbers[place.buffer], place.first
        view.heads, view.width, view.stride = place.heads, place.width, place.stride


def _rows(arena: NDArray[np.float32], place: Place, max_rows: int) -> NDArray[np.float32]:
    """The rows of a place: (max_rows, width)."""
    start, width = place.buffer.offset * max_rows, place.buffer.width
    rows: NDArray[np.float32] = arena[start : start + max_rows * width].reshape(max_rows, width)
    return rows[:, place.first : place.first + place.heads * place.width]
