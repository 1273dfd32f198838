"""Records: what a node is in C. One function per kind of node, the only one that knows its arguments.

Everything that C will trust is checked here: types, shapes, byte lengths. C keeps no copy: `Memory` holds on
to all that the records point into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import ContextError, FormatError, UnsupportedModelError
from ggufpy.gguf.reader import TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Node, Value
from ggufpy.graph import nodes as n
from ggufpy.runtime.state import States

FUNCTIONS = {
    "silu": lib.GG_SILU,
    "gelu": lib.GG_GELU,
    "gelu_erf": lib.GG_GELU_ERF,
    "gelu_quick": lib.GG_GELU_QUICK,
    "relu": lib.GG_RELU,
    "relu2": lib.GG_RELU2,
    "sigmoid": lib.GG_SIGMOID,
    "softplus": lib.GG_SOFTPLUS,
    "tanh": lib.GG_TANH,
}


@dataclass(frozen=True, slots=True)
class Moments:
    """What a linear has read: sums over rows of x^2, (matrices, n), or of x x^T, (matrices, n, n), in f64.

    rows: how many there were, (matrices,).
    """

    sums: NDArray[np.float64]
    rows: NDArray[np.int64]


class Memory:
    """Tensors and arrays of a program, as pointers that stay good while this lives."""

    def __init__(self, tensors: Mapping[str, TensorInfo], states: States, max_rows: int) -> None:
        self.states = states
        self.max_rows = max_rows
        self.routes: dict[Value, Any] = {}  # the lists of each route
        self.taps: dict[str, Moments] = {}  # by the tensor of the linear
        self._experts: dict[Value, int] = {}
        self._kept: list[Any] = []
        self._tensors = tensors

    def pointer(self, c_type: str, array: NDArray[Any]) -> Any:
        """An array of this memory's own, as a pointer."""
        pointer = ffi.from_buffer(c_type, array)
        self._kept.append(pointer)  # it keeps the array
        return pointer

    def keep(self, pointer: Any) -> Any:
        """Hold on to what cffi owns."""
        self._kept.append(pointer)
        return pointer

    def floats(self, size: int) -> Any:
        """Room for floats that begins at a cache line."""
        return self.pointer("float[]", aligned(4 * size).view(np.float32))

    def integers(self, size: int) -> Any:
        """Room for 32-bit integers."""
        return self.pointer("int32_t[]", np.zeros(size, np.int32))

    def values(self, name: str) -> NDArray[np.float32]:
        """A small tensor as floats, in its shape."""
        info = self._tensors[name]
        data, values = _data(info), np.empty(info.shape, np.float32)
        status = lib.gg_expand(
            info.type, values.size, ffi.from_buffer(data), data.nbytes, ffi.from_buffer("float[]", values)
        )
        if status:
            raise self._misfit(name, data)
        return values

    def vector(self, name: str | None) -> Any:
        """A small tensor as floats; NULL for none."""
        return self.pointer("float[]", self.values(name)) if name else ffi.NULL

    def size(self, name: str | None) -> int:
        """Elements of a tensor; 0 for none."""
        return math.prod(self._tensors[name].shape) if name else 0

    def weight(self, record: Any, name: str) -> None:
        """Fill a gg_tensor with a tensor (rows, columns), (matrices, rows, columns) or (matrices,)."""
        info = self._tensors[name]
        data = _data(info)
        *matrices, rows, columns = info.shape if len(info.shape) > 1 else (*info.shape, 1, 1)
        record.data = self.pointer("uint8_t[]", data)
        record.bytes, record.stride = data.nbytes, info.type.row_bytes(columns)
        record.type, record.n_in, record.n_out = info.type, columns, rows
        record.count = math.prod(matrices)
        if data.nbytes != record.count * rows * record.stride:
            raise self._misfit(name, data)

    def add_route(self, weights: Value, lists: Any, experts: int) -> None:
        """Note a route by its weights, for the linears that follow it."""
        self.routes[weights], self._experts[weights] = lists, experts

    def experts(self, weights: Value) -> int:
        """How many experts a route chooses from."""
        return self._experts[weights]

    def _misfit(self, name: str, data: NDArray[np.uint8]) -> FormatError:
        return self.error(name, f"has {data.nbytes} bytes, too few or too many for its shape")

    def error(self, name: str, problem: str) -> FormatError:
        """The error about a tensor."""
        info = self._tensors[name]
        return FormatError(f"{info.file}: tensor '{info.name}' {problem}")


Kind = TypeVar("Kind", bound=Node)
Fill = Callable[[Any, Memory, Any], None]
_FILLS: dict[type[Node], tuple[str, Fill | None]] = {n.Total: ("total", None)}


def fills(kind: type[Kind], name: str) -> Callable[[Callable[[Kind, Memory, Any], None]], object]:
    """Register what fills the arguments `gg_<name>` of the op that a kind of node is."""

    def register(fill: Callable[[Kind, Memory, Any], None]) -> object:
        _FILLS[kind] = (name, fill)
        return fill

    return register


def fill(record: Any, node: Node, memory: Memory) -> None:
    """Make a gg_op of a node, but for its views; raises FormatError for tensors that hold nonsense."""
    name, arguments = _FILLS[type(node)]
    record.kind = lib.gg_op_kind_of(name.encode())
    if arguments is not None:
        record.args = args = memory.keep(ffi.new(f"gg_{name} *"))
        arguments(node, memory, args)


@fills(n.Affine, "affine")
def _affine(node: n.Affine, memory: Memory, args: Any) -> None:
    args.factor, args.offset, args.low, args.high = node.factor, node.offset, node.low, node.high


@fills(n.Binary, "binary")
def _binary(node: n.Binary, memory: Memory, args: Any) -> None:
    args.multiplies = node.function == "mul"


@fills(n.Copy, "copy")
def _copy(node: n.Copy, memory: Memory, args: Any) -> None:
    args.picks = node.picks


@fills(n.Embed, "embed")
def _embed(node: n.Embed, memory: Memory, args: Any) -> None:
    memory.weight(args.weight, node.tensor)
    args.by, args.scale = ("token", "place", "first").index(node.by), node.scale


@fills(n.Linear, "linear")
def _linear(node: n.Linear, memory: Memory, args: Any) -> None:
    args.n_weights = len(node.matrices)
    for i, matrix in enumerate(node.matrices):
        memory.weight(args.weight[i], matrix.tensor)
        args.bias[i] = memory.vector(matrix.bias)
    args.gate = FUNCTIONS[node.gate] if node.gate else -1
    args.per_head = node.per_head
    args.lists = memory.routes[node.route] if node.route else ffi.NULL


@fills(n.Norm, "norm")
def _norm(node: n.Norm, memory: Memory, args: Any) -> None:
    args.weight, args.bias = memory.vector(node.weight), memory.vector(node.bias)
    args.n_weights = memory.size(node.weight or node.bias)
    args.size, args.epsilon = ("rms", "layer", "l2").index(node.size), node.epsilon


@fills(n.Pool, "pool")
def _pool(node: n.Pool, memory: Memory, args: Any) -> None:
    args.kind = ("mean", "first").index(node.kind)


@fills(n.RopeTable, "rope_table")
def _rope_table(node: n.RopeTable, memory: Memory, args: Any) -> None:
    factors = None
    if node.factors:
        factors = [float(x) for x in memory.values(node.factors)]
        if not all(math.isfinite(x) and x > 0 for x in factors):
            raise memory.error(node.factors, "has factors that are not positive numbers")
    frequencies, args.magnitude = node.rope.frequencies(factors)
    args.frequency = memory.pointer("float[]", np.array(frequencies, np.float32))
    args.halves = node.rope.halves
    if node.sections:
        axes = [axis for axis, pairs in enumerate(node.sections) for _ in range(pairs)]
        axes += [0] * (len(frequencies) - len(axes))
        args.axis = memory.pointer("int32_t[]", np.array(axes[: len(frequencies)], np.int32))


@fills(n.Rotate, "rotate")
def _rotate(node: n.Rotate, memory: Memory, args: Any) -> None:
    args.halves = node.rope.halves


@fills(n.Route, "route")
def _route(node: n.Route, memory: Memory, args: Any) -> None:
    experts, slots, rows = node.logits.width, node.outputs[0].shape[0], memory.max_rows
    args.lists = memory.integers(lib.gg_list_integers(experts, rows, slots))
    args.lists[0], args.lists[1] = experts, slots
    args.chosen = memory.integers(rows * slots)
    args.bias = memory.vector(node.bias)
    args.gating = ("softmax", "sigmoid", "chosen", "sparsemixer").index(node.gating)
    args.jitter = node.jitter
    args.normalize, args.scale = node.normalize, node.scale
    args.groups, args.groups_used, args.group_best = node.groups, node.groups_used, node.group_best
    memory.add_route(node.outputs[0], args.lists, experts)


@fills(n.Tap, "tap")
def _tap(node: n.Tap, memory: Memory, args: Any) -> None:
    slots = node.route.shape[0] if node.route else 1
    matrices = memory.experts(node.route) if node.route else node.x.shape[0] if node.per_head else 1
    size = node.x.shape[-1]
    sums = np.zeros((matrices, size, size) if node.products else (matrices, size))
    counts = np.zeros(matrices, np.int64)
    args.sum, args.count = memory.pointer("double[]", sums), memory.pointer("int64_t[]", counts)
    args.lists = memory.routes[node.route] if node.route else ffi.NULL
    args.matrices, args.slots, args.products = matrices, slots, node.products
    memory.taps.update(dict.fromkeys(node.tensors, Moments(sums, counts)))


@fills(n.Unary, "unary")
def _unary(node: n.Unary, memory: Memory, args: Any) -> None:
    args.function = FUNCTIONS[node.function]


@fills(n.Vector, "vector")
def _vector(node: n.Vector, memory: Memory, args: Any) -> None:
    args.vector, args.n = memory.vector(node.tensor), memory.size(node.tensor)
    args.multiplies = node.function == "mul"


@fills(n.Keep, "keep")
def _keep(node: n.Keep, memory: Memory, args: Any) -> None:
    memory.states.describe_pages(args.cache, node.outputs[0])


@fills(n.Attention, "attention")
def _attention(node: n.Attention, memory: Memory, args: Any) -> None:
    memory.states.describe_pages(args.cache, node.kept)
    args.sinks = memory.vector(node.sinks)
    if node.slopes:
        args.slopes = memory.pointer("float[]", np.array(node.slopes, np.float32))
    args.scale, args.softcap, args.causal = node.scale, node.softcap, node.causal
    args.temperature, args.temperature_length = node.temperature, node.temperature_length
    args.temperature_offset, args.chunk = node.temperature_offset, node.chunk


@fills(n.Conv, "conv")
def _conv(node: n.Conv, memory: Memory, args: Any) -> None:
    memory.states.describe_slots(args.slots, node)
    weights = np.ascontiguousarray(memory.values(node.tensor).T)
    args.weight = memory.pointer("float[]", weights)
    args.bias, args.size = memory.vector(node.bias), node.size


@fills(n.Scan, "scan")
def _scan(node: n.Scan, memory: Memory, args: Any) -> None:
    memory.states.describe_slots(args.slots, node)
    args.a, args.n_a = memory.vector(node.a), memory.size(node.a) // node.x.shape[0]


@fills(n.DeltaRule, "delta_rule")
def _delta_rule(node: n.DeltaRule, memory: Memory, args: Any) -> None:
    memory.states.describe_slots(args.slots, node)


def aligned(n_bytes: int) -> NDArray[np.uint8]:
    """Memory that begins at a cache line: vectors that cross lines are read twice. Raises ContextError."""
    try:
        memory = np.empty(n_bytes + 64, np.uint8)
    except (MemoryError, ValueError):  # ValueError: more than NumPy can count
        raise ContextError(
            f"there is no memory for {n_bytes:,} bytes to compute in; choose a smaller batch or fewer threads"
        ) from None
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes]


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
