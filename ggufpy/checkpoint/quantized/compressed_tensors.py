"""compressed-tensors, as llm-compressor writes them: integers and floats, packed or plain.

A module has `weight` (a number a byte) or `weight_packed`, `weight_scale`, and what its format needs beside
them. Integers and zero-points are signed; packed ones have half of their range added. Zero-points are packed
along the outputs. Source: compressed_tensors compressors/*/base.py, compressors/pack_quantized/helpers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized import fp4, fp8, zero_points
from ggufpy.checkpoint.quantized.integers import Integers, Slab
from ggufpy.checkpoint.quantized.method import (
    FLOATS,
    ORIGINAL,
    Packed,
    Weight,
    as_floats,
    precision_in_f16,
)
from ggufpy.checkpoint.quantized.scales import Scales
from ggufpy.checkpoint.quantized.schemes import Scheme
from ggufpy.checkpoint.quantized.words import dense, loose, words
from ggufpy.checkpoint.quantized.zero_points import DTYPES, Unpack, ZeroPoints
from ggufpy.checkpoint.small_floats import E2M3, E8M0
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

Integer = NDArray[np.int16]

_KNOWN = (
    *("quant_method", "config_groups", "format", "quantization_status", "sparsity_config", "version"),
    *("ignore", "kv_cache_scheme", "global_compression_ratio", "moe_sparsity_config"),
    *("run_compressed", "dequantize"),
)
_FORMATS = (
    *("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision"),
    *("nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp6-pack-quantized", "mxfp8-quantized"),
)
_PARTS = ("weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx", "weight_global_scale")


def weights(packed: Packed) -> list[Weight]:
    """All modules that have scales, each by the group of the settings that it belongs to."""
    packed.check_keys(_KNOWN)
    packed.choice("format", "int-quantized", *_FORMATS)
    packed.choice("quantization_status", "compressed", "compressed", "frozen")
    sparsity = packed.settings.get("sparsity_config") or {}
    if not isinstance(sparsity, dict) or sparsity.get("format", "dense") != "dense":
        raise UnsupportedModelError(f"{packed.where}: its weights are packed as sparse ones; {ORIGINAL}")
    modules = []
    for stem in packed.stems(".weight_scale"):
        there = [name for name in (f"{stem}.weight_packed", f"{stem}.weight") if name in packed.tensors]
        if there:
            modules.append(_Module(packed, stem, there[0], Scheme.of(packed, stem)))
    return [module.weight() for module in modules]


@dataclass(frozen=True, slots=True)
class _Module:
    """The tensors of one module. stem: its name. codes: the name of the tensor with the numbers."""

    packed: Packed
    stem: str
    codes: str
    scheme: Scheme

    def weight(self) -> Weight:
        """Raises FormatError where parts do not fit, UnsupportedModelError for other formats."""
        is_packed, bits = self.codes.endswith("_packed"), self.scheme.bits
        if self.scheme.kind == "int":
            return self._packed_integers() if is_packed else self._plain_integers()
        if not is_packed and bits == 8:
            scale = self._name("weight_scale")
            return fp8.weight(self.packed, self.codes, scale, self.scheme.block, self._parts())
        if is_packed and bits == 4:
            return self._floats_of_4_bits()
        if is_packed and bits == 6:
            return self._floats_of_6_bits()
        problem = f"has floats of {bits} bits, which ggufpy does not read so"
        raise UnsupportedModelError(f"tensor {quoted(self.codes)} {problem}; {ORIGINAL}")

    def _name(self, part: str) -> str:
        return f"{self.stem}.{part}"

    def _has(self, part: str) -> bool:
        return self._name(part) in self.packed.tensors

    def _parts(self) -> list[str]:
        there = [self._name(part) for part in _PARTS if self._has(part)]
        return [self.codes, *there, *fp8.beside(self.packed, self.codes)]

    def _floats_of_4_bits(self) -> Weight:
        """NVFP4 has a scale of the whole matrix, by which is divided; MXFP4 has none."""
        name, scale = self._name("weight"), self._name("weight_scale")
        codes = self.packed.part(self.codes, [GGMLType.I8])
        scales = self.packed.part(scale, [GGMLType.I8, GGMLType.BF16])
        if not self._has("weight_global_scale"):
            return fp4.mxfp4(name, codes, scales, self._parts())
        factor = 1 / fp4.factor(self.packed, self._name("weight_global_scale"))
        return fp4.nvfp4(name, codes, scales, self._parts(), factor)

    def _floats_of_6_bits(self) -> Weight:
        """MXFP6: E2M3, four in three bytes, times powers of two."""
        codes = self.packed.part(self.codes, [GGMLType.I8])
        scale = self.packed.part(self._name("weight_scale"), [GGMLType.I8])
        shape = (*scale.shape[:-1], scale.columns * 32)
        if codes.shape != (*scale.shape[:-1], scale.columns * 24):
            raise _misfit(codes, scale)

        def read(start: int, stop: int) -> NDArray[np.float32]:
            values = E2M3[dense(words(codes, start, stop), 6)]
            values *= E8M0[scale.read(start, stop)].repeat(32, axis=1)
            return values

        return as_floats(self._name("weight"), shape, self._parts(), read)

    def _plain_integers(self) -> Weight:
        """A byte each, signed."""
        codes = self.packed.part(self.codes, [GGMLType.I8])
        half = 1 << (self.scheme.bits - 1)

        def read(start: int, stop: int) -> Integer:
            values = codes.read(start, stop).view(np.int8).astype(np.int16) + np.int16(half)
            if values.min() < 0 or values.max() >= 2 * half:
                problem = f"has numbers of more than {self.scheme.bits} bits"
                raise FormatError(f"tensor {quoted(self.codes)} {problem}; download it again")
            return values

        return self._integers(codes.shape, read)

    def _packed_integers(self) -> Weight:
        codes, bits = self.packed.part(self.codes, [GGMLType.I32]), self.scheme.bits
        said = self.packed.shaped(self._name("weight_shape"), [*DTYPES], (2,), of=self.codes)
        rows, columns = _numbers(said).tolist()
        if len(codes.shape) != 2 or codes.shape[0] != rows:
            problem = f"has shape {codes.shape}, {quoted(said.name)} says {(rows, columns)}"
            raise FormatError(f"tensor {quoted(self.codes)} {problem}; they do not belong together")
        unpack = self._unpacking(codes, columns, codes.columns)
        return self._integers((rows, columns), lambda *which: unpack(words(codes, *which), bits)[:, :columns])

    def _unpacking(self, codes: TensorSource, count: int, n: int) -> Unpack:
        """How `count` integers are packed in n words: dense, as since 0.18, or with bits left over."""
        bits = self.scheme.bits
        ways = {dense: -(-count * bits // 32), loose: -(-count // (32 // bits))}
        fitting = [unpack for unpack, needed in ways.items() if needed == n]
        if not fitting:
            problem = f"has {n} words for {count} integers of {bits} bits"
            raise FormatError(f"tensor {quoted(codes.name)} {problem}; download it again")
        return fitting[0]

    def _integers(self, shape: tuple[int, ...], read: Callable[[int, int], NDArray[Any]]) -> Weight:
        scale = self.packed.part(self._name("weight_scale"), FLOATS)
        scales = Scales.of(scale, shape, self.scheme.block)
        zeros = self._zeros(scales, shape[0])
        return Integers(
            self._name("weight"),
            shape,
            self._parts(),
            self._group_of(scales, shape[-1]),
            self.scheme.bits,
            zeros.range(),
            precision_in_f16(scale),
            lambda *rows: Slab(read(*rows), scales.read(*rows), zeros.read(*rows)),
        ).weight()

    def _group_of(self, scales: Scales, columns: int) -> NDArray[np.int64]:
        """The group of each column, by `weight_g_idx` where act-order gave groups others than neighbours."""
        if not self._has("weight_g_idx"):
            return scales.group_of
        index = self.packed.shaped(self._name("weight_g_idx"), [*DTYPES], (columns,), of=self.codes)
        group_of = _numbers(index)
        if (group_of == -1).all():
            return scales.group_of
        if group_of.min() < 0 or group_of.max() >= scales.source.columns:
            problem = f"names group {group_of.max()} or {group_of.min()} of {scales.source.columns}"
            raise FormatError(f"tensor {quoted(index.name)} {problem}; download the checkpoint again")
        return group_of

    def _zeros(self, scales: Scales, rows: int) -> ZeroPoints:
        bits = self.scheme.bits
        if not self._has("weight_zero_point"):
            return ZeroPoints(rows, lambda start, stop: 1 << (bits - 1))
        zeros = self.packed.part(self._name("weight_zero_point"), [*DTYPES])
        if zeros.shape == self.packed.tensors[self._name("weight_scale")].shape:
            return zero_points.plain(zeros, scales, rows, bits)
        if zeros.type is not GGMLType.I32 or zeros.shape[1:] != scales.source.shape[1:]:
            raise _misfit(zeros, scales.source)
        return zero_points.packed(zeros, self._unpacking(zeros, rows, zeros.shape[0]), rows, bits)


def _numbers(source: TensorSource) -> NDArray[np.int64]:
    """All integers of a tensor, one after the other."""
    return source.read(0, source.rows).view(DTYPES[source.type]).reshape(-1).astype(np.int64)


def _misfit(first: TensorSource, second: TensorSource) -> FormatError:
    shapes = f"{quoted(first.name)} {first.shape}, {quoted(second.name)} {second.shape}"
    return FormatError(f"tensors of one weight do not fit each other: {shapes}; download them again")
