"""A plan and a file's tensors as the flat records that csrc executes.

Everything that C will trust is checked here: types, shapes, byte lengths. C keeps no copy: the Program holds
on to all memory that the records point into.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.graph.trace import Linear
from ggufpy.runtime.cache import KVCache
from ggufpy.runtime.plan import (
    AttentionStep,
    EmbedStep,
    GatherStep,
    LinearStep,
    NormStep,
    Plan,
    RopeTableStep,
    RotateStep,
    Step,
    Value,
)

PRECISIONS = {"fast": lib.GG_FAST, "exact": lib.GG_EXACT, "int8": lib.GG_INT8}


class Program:
    """A runnable plan. `record` is the gg_program; `logits` views the rows that the last step writes."""

    def __init__(
        self,
        plan: Plan,
        tensors: Mapping[str, TensorInfo],
        cache: KVCache,
        *,
        max_rows: int,
        n_threads: int,
        precision: str,
    ) -> None:
        self._kept: list[Any] = []
        self._tensors = tensors
        self._cache = cache
        self._buffers: dict[Value, int] = {}
        self._ops = ffi.new("gg_op[]", len(plan.steps))
        for op, step in zip(self._ops, plan.steps, strict=True):
            self._fill(op, step)
        self._table = ffi.new("gg_buffer[]", [(v.offset * max_rows, v.width) for v in self._buffers])
        self.record = ffi.new("gg_program *")
        self.record.ops, self.record.n_ops = self._ops, len(plan.steps)
        self.record.precision = PRECISIONS[precision]
        self.record.max_rows, self.record.buffers = max_rows, self._table
        arena = _aligned(4 * plan.arena_width * max_rows).view(np.float32)
        self.record.arena = self._pointer("float[]", arena)
        self._allocate_operands(plan, max_rows, n_threads)
        self.record.partial_floats = lib.gg_partial_floats(self.record, cache.n_positions)
        self.record.partials = self._floats(self.record.partial_floats)
        start = plan.output.offset * max_rows
        self.logits: NDArray[np.float32] = arena[start : start + max_rows * plan.output.width].reshape(
            max_rows, plan.output.width
        )

    def _allocate_operands(self, plan: Plan, max_rows: int, n_threads: int) -> None:
        inputs = [
            linear.inputs[0].width for s in plan.steps if isinstance(s, LinearStep) for linear in s.linears
        ]
        widest = -(-max(inputs) // 32) * 32
        record = self.record
        record.max_in = widest
        record.packed = self._pointer("uint8_t[]", _aligned(lib.gg_packed_bytes(record)))
        record.quantized = self._pointer("int8_t[]", np.empty(max_rows * widest, np.int8))
        record.quantized_scale = self._floats(max_rows * widest // 32)
        record.quantized_sum = self._floats(max_rows * widest // 16)
        record.tiles = self._pointer("int32_t[]", np.empty(2 * max_rows, np.int32))
        record.scratch_floats = lib.gg_scratch_floats(record)
        record.scratch = self._floats(record.scratch_floats * n_threads)

    # ---- Memory that C points into ----

    def _pointer(self, c_type: str, array: NDArray[Any]) -> Any:
        pointer = ffi.from_buffer(c_type, array)
        self._kept.append(pointer)  # it keeps the array
        return pointer

    def _floats(self, n: int) -> Any:
        return self._pointer("float[]", _aligned(4 * n).view(np.float32))

    def _values(self, name: str) -> NDArray[np.float32]:
        """A small tensor as floats."""
        info = self._tensors[name]
        data, values = _data(info), np.empty(info.shape[-1], np.float32)
        status = lib.gg_expand(
            info.type, values.size, ffi.from_buffer(data), data.nbytes, ffi.from_buffer("float[]", values)
        )
        assert status == 0, name
        return values

    def _vector(self, name: str) -> Any:
        return self._pointer("float[]", self._values(name))

    def _weight(self, record: Any, name: str) -> None:
        info = self._tensors[name]
        data = _data(info)
        rows, columns = info.shape
        record.data = self._pointer("uint8_t[]", data)
        record.bytes, record.stride = data.nbytes, info.type.row_bytes(columns)
        record.type, record.n_in, record.n_out = info.type, columns, rows
        assert data.nbytes == rows * record.stride, name

    # ---- Ops ----

    def _buffer(self, value: Value) -> int:
        return self._buffers.setdefault(value, len(self._buffers))

    def _fill(self, op: Any, step: Step) -> None:
        op.out_rows = step.out_rows
        op.add = -1
        op.src = _indices([self._buffer(v) for v in step.src])
        op.dst = _indices([self._buffer(v) for v in step.dst])
        op.n = step.dst[0].width
        match step:
            case EmbedStep():
                op.kind = lib.GG_OP_EMBED
                op.n_weights = 1
                self._weight(op.weight[0], step.tensor)
            case RopeTableStep():
                op.kind = lib.GG_OP_ROPE_TABLE
                self._fill_rope_table(op, step)
            case NormStep():
                op.kind = lib.GG_OP_RMS_NORM
                op.vector, op.scale = self._vector(step.tensor), step.epsilon
            case LinearStep():
                op.kind = lib.GG_OP_LINEAR
                self._fill_linear(op, step)
            case RotateStep(node=node):
                op.kind = lib.GG_OP_ROPE
                op.n, op.n_head, op.head_dim = node.rope.dimensions, node.heads, node.head_dim
            case AttentionStep():
                op.kind = lib.GG_OP_ATTENTION
                self._fill_attention(op, step)
            case GatherStep():
                op.kind = lib.GG_OP_GATHER

    def _fill_rope_table(self, op: Any, step: RopeTableStep) -> None:
        factors = None
        if step.factors:
            factors = [float(x) for x in self._values(step.factors)]
            if not all(math.isfinite(x) and x > 0 for x in factors):
                info = self._tensors[step.factors]
                raise FormatError(
                    f"{info.file}: tensor '{info.name}' has factors that are not positive numbers"
                )
        frequencies, op.scale = step.rope.frequencies(factors)
        op.vector = self._pointer("float[]", np.array(frequencies, np.float32))

    def _fill_linear(self, op: Any, step: LinearStep) -> None:
        op.n_weights, op.gated = len(step.linears), step.gated
        if len(step.src) == 2:
            op.add = self._buffer(step.src[1])
        for i, linear in enumerate(step.linears):
            self._weight(op.weight[i], linear.tensor)
            op.bias[i] = self._bias(linear)

    def _bias(self, linear: Linear) -> Any:
        return self._vector(linear.bias) if linear.bias else ffi.NULL

    def _fill_attention(self, op: Any, step: AttentionStep) -> None:
        node = step.node
        op.n_head, op.n_kv, op.scale = node.heads, node.kv_heads, node.scale
        op.head_dim, op.value_dim = node.key_length, node.value_length
        op.temperature_scale, op.temperature_length = node.temperature_scale, node.temperature_length
        self._cache.describe(op.cache, node.layer)


def _aligned(n_bytes: int) -> NDArray[np.uint8]:
    """Memory that begins at a cache line: vectors that cross lines are read twice."""
    memory = np.empty(n_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes]


def _indices(values: Sequence[int]) -> list[int]:
    return [*values, *[-1] * (3 - len(values))]


def _data(info: TensorInfo) -> NDArray[np.uint8]:
    """The bytes of a tensor that can be run, as C reads them: flat and little-endian.

    They are used where they lie in the file; only big-endian ones are swapped into memory.
    """
    _check_type(info)
    if info.byte_order == "<":
        return info.data
    return np.ascontiguousarray(info.source().read(0, math.prod(info.shape[:-1]))).ravel()


def _check_type(info: TensorInfo) -> None:
    if lib.gg_type_weights(info.type) == 0:
        runnable = ", ".join(t.label for t in GGMLType if lib.gg_type_weights(t))
        raise UnsupportedModelError(
            f"{info.file}: tensor '{info.name}' has type {info.type.label}, which cannot be run yet; "
            f"types that can: {runnable}"
        )
