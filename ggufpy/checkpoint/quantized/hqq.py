"""HQQ: groups of the flat weight as rows or columns of a matrix, of which several parts share bytes.

`W_q` holds that matrix: rows are groups for axis 1, columns for axis 0; the first part of its rows is in the
highest bits. Weight = (integer - zero) * scale, where zero need not be an integer. Beside it are `scale`,
`zero`, and settings, each a tensor: `nbits`, `group_size`, `shape`, `axis`, `packing`. Source: hqq
core/quantize.py, core/bitpack.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized.integers import Integers, Slab
from ggufpy.checkpoint.quantized.method import (
    FLOATS,
    ORIGINAL,
    Packed,
    Weight,
    as_floats,
    floats_of,
    precision_in_f16,
)
from ggufpy.checkpoint.quantized.words import some_bytes
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

_KEYS = ("quant_method", "quant_config", "skip_modules", "modules_to_not_convert")

# What the library puts beside a weight; of those that are not used, flags that must be off, and others.
_SETTINGS = ("scale", "zero", "nbits", "group_size", "shape", "axis", "packing", "channel_wise")
_OFF = ("quant_scale", "quant_zero")
_OTHERS = (
    *("unpack_view_dtype", "view_as_float", "compute_dtype", "offload_meta", "encoded_state_dict"),
    *("stores_quant_config", "optimize", "round_zero"),
)
# Bits of an integer, how many are in an item, and the item.
_PACKINGS = {
    "8bit_u8": (8, 1, "u1"),
    "4bit_u8": (4, 2, "u1"),
    "3bit_32": (3, 10, "<u4"),
    "2bit_u8": (2, 4, "u1"),
    "1bit_u8": (1, 8, "u1"),
}

Floats = NDArray[np.float32]


def weights(packed: Packed) -> list[Weight]:
    """All that HQQ has packed."""
    packed.check_keys(_KEYS)
    return [_weight(packed, stem) for stem in packed.stems(".W_q")]


def _weight(packed: Packed, stem: str) -> Weight:
    matrix = _Matrix.read(packed, stem)
    scales, zeros = (packed.part(f"{stem}.{name}", FLOATS) for name in ("scale", "zero"))
    if {each.shape for each in (scales, zeros)} != {
        (matrix.rows, 1) if matrix.by_rows else (1, matrix.columns)
    }:
        shapes = f"{scales.shape} and {zeros.shape} of {quoted(scales.name)} and {quoted(zeros.name)}"
        raise FormatError(
            f"shapes {shapes} do not belong to {matrix.rows} x {matrix.columns} in its {stem}.W_q"
        )
    names = (f"{stem}.{name}" for name in ("W_q", *_SETTINGS, *_OFF, *_OTHERS))
    parts = [name for name in names if name in packed.tensors]
    outputs, inputs = matrix.shape

    if not matrix.by_rows or inputs % matrix.columns:
        return as_floats(f"{stem}.weight", matrix.shape, parts, lambda *of: matrix.floats(scales, zeros, *of))
    per_row = inputs // matrix.columns

    def read(start: int, stop: int) -> Slab:
        groups = start * per_row, stop * per_row
        scale, zero = (floats_of(each, *groups).reshape(-1, per_row) for each in (scales, zeros))
        return Slab(matrix.codes(*groups).reshape(-1, inputs), scale, zero)

    return Integers(
        f"{stem}.weight",
        (outputs, inputs),
        parts,
        np.arange(inputs) // matrix.columns,
        matrix.bits,
        None,
        precision_in_f16(scales),
        read,
    ).weight()


@dataclass(frozen=True, slots=True)
class _Matrix:
    """What `W_q` holds. shape: of the weight. by_rows: each row is a group, else each column."""

    packed: TensorSource
    packing: str
    bits: int
    shape: tuple[int, int]
    rows: int
    columns: int
    by_rows: bool

    @classmethod
    def read(cls, packed: Packed, stem: str) -> _Matrix:
        """Raises FormatError for settings that do not belong together, UnsupportedModelError for others."""
        name = f"{stem}.W_q"
        tensor = packed.part(name, (GGMLType.I8, GGMLType.I32, *FLOATS))
        packing, axis, bits, size = _settings(packed, stem)
        shape = packed.shaped(f"{stem}.shape", (GGMLType.I64,), (2,), of=name)
        outputs, inputs = (int(n) for n in shape.read(0, 1).view("<i8")[0])
        groups = outputs * inputs // max(size, 1)
        rows, columns = (groups, size) if axis == 1 else (size, groups)
        _, in_item, item = _PACKINGS[packing]
        n_bytes = -(-rows // in_item) * columns * np.dtype(item).itemsize
        if min(outputs, inputs) < 1 or rows * columns != outputs * inputs or tensor.n_bytes != n_bytes:
            problem = f"has {tensor.n_bytes} bytes for shape {(outputs, inputs)} in groups of {size}"
            raise FormatError(f"tensor {quoted(name)} {problem}; they do not belong together")
        return cls(tensor, packing, bits, (outputs, inputs), rows, columns, axis == 1)

    def codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows start..stop: (rows, columns)."""
        bits, in_item, item = _PACKINGS[self.packing]
        width, step = np.dtype(item).itemsize * self.columns, -(-self.rows // in_item)
        parts = []
        while start < stop:
            part, first = divmod(start, step)
            last = min(step, first + stop - start)
            items = some_bytes(self.packed, first * width, last * width).view(item)
            parts.append((items >> bits * (in_item - 1 - part) & (1 << bits) - 1).astype(np.uint8))
            start += last - first
        return np.concatenate(parts).reshape(-1, self.columns)

    def floats(self, scales: TensorSource, zeros: TensorSource, start: int, stop: int) -> Floats:
        """Rows start..stop of the weight."""
        inputs = self.shape[1]
        first, last = start * inputs // self.columns, -(-stop * inputs // self.columns)
        rows = (first, last) if self.by_rows else (0, 1)
        values = (self.codes(first, last) - floats_of(zeros, *rows)) * floats_of(scales, *rows)
        skipped = start * inputs - first * self.columns
        return values.reshape(-1)[skipped:][: (stop - start) * inputs].reshape(-1, inputs)


def _settings(packed: Packed, stem: str) -> tuple[str, int, int, int]:
    """How integers are packed, the axis, whole bits of an integer, numbers of a group."""
    text = packed.part(f"{stem}.packing", (GGMLType.I8,))
    packing = text.read(0, text.rows).tobytes().decode(errors="replace")
    axis, bits, size = (_number(packed, f"{stem}.{key}") for key in ("axis", "nbits", "group_size"))
    unknown = [key for key in _OFF if f"{stem}.{key}" in packed.tensors and _number(packed, f"{stem}.{key}")]
    if not _number(packed, f"{stem}.channel_wise"):
        unknown.append("one group for all")
    if packing not in _PACKINGS or axis not in (0, 1) or not 0 < bits <= 8 or unknown:
        said = ", ".join([f"{bits:g} bits", f"packing {packing:.20}", f"axis {axis:g}", *unknown])
        raise UnsupportedModelError(
            f"tensor {quoted(f'{stem}.W_q')}: ggufpy does not know {said}; {ORIGINAL}"
        )
    return packing, int(axis), math.ceil(bits), int(size)


def _number(packed: Packed, name: str) -> float:
    """A setting that is a number; raises FormatError for others."""
    tensor = packed.shaped(name, (GGMLType.I8, GGMLType.I32, GGMLType.F32), (1,), of=name)
    dtype = {GGMLType.I8: "u1", GGMLType.I32: "<i4", GGMLType.F32: "<f4"}[tensor.type]
    value = float(tensor.read(0, 1).view(dtype)[0, 0])
    if not math.isfinite(value):
        raise FormatError(f"tensor {quoted(name)} is {value:g}, it must be a number; download it again")
    return value
