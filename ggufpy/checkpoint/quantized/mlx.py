"""MLX: integers of 2 to 8 bits in groups with a scale and a minimum ("bias"), or blocks of small floats.

A module is packed if it has `scales`; `weight` is then of words of 32 bits, the first number in the lowest.
Which bits and groups a module has, settings under its own name say, or those of all. Matrices of experts
are one tensor, `switch_mlp`. Source: mlx.core.quantize, mlx.nn.quantize, mlx_lm utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.mlx_layout import experts
from ggufpy.checkpoint.quantized import fp4
from ggufpy.checkpoint.quantized.integers import Integers, Slab
from ggufpy.checkpoint.quantized.method import (
    FLOATS,
    ORIGINAL,
    How,
    Packed,
    Weight,
    as_floats,
    floats_of,
    precision_in_f16,
)
from ggufpy.checkpoint.quantized.words import dense, words
from ggufpy.checkpoint.small_floats import E4M3, E8M0
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

# Modes: bits and columns of a group where settings do not say them.
_MODES = {"affine": (4, 64), "mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}


def weights(packed: Packed) -> list[Weight]:
    """All modules that have scales, experts one by one."""
    of_modules = [key for key, value in packed.settings.items() if isinstance(value, (dict, bool))]
    packed.check_keys(("bits", "group_size", "mode", "quant_method", *of_modules))
    modules = [_Module.of(packed, stem) for stem in packed.stems(".scales")]
    return [each for module in modules for each in _of_experts(module.weight())]


@dataclass(frozen=True, slots=True)
class _Module:
    """The tensors of one module, and the settings that count for it."""

    packed: Packed
    stem: str
    mode: str
    bits: int
    group: int

    @classmethod
    def of(cls, packed: Packed, stem: str) -> _Module:
        own = packed.settings.get(stem)
        said: Mapping[str, Any] = own if isinstance(own, dict) else packed.settings
        mode = said.get("mode") or "affine"
        if not isinstance(mode, str) or mode not in _MODES:
            problem = f"is quantized in mode {mode!r:.40}, ggufpy knows {', '.join(_MODES)}"
            raise UnsupportedModelError(f"tensor {quoted(stem + '.weight')} {problem}; {ORIGINAL}")
        bits, group = said.get("bits", _MODES[mode][0]), said.get("group_size", _MODES[mode][1])
        if type(bits) is not int or bits not in range(1, 9) or type(group) is not int or group < 1:
            problem = f"has {bits!r:.20} bits in groups of {group!r:.20}"
            raise FormatError(f"{packed.where}: {quoted(stem)} {problem} there; download it again")
        return cls(packed, stem, mode, bits, group)

    def weight(self) -> Weight:
        """Raises FormatError where parts are missing or do not fit."""
        name, scale = f"{self.stem}.weight", f"{self.stem}.scales"
        codes = self.packed.part(name, [GGMLType.I32])
        scales = self.packed.part(scale, FLOATS if self.mode == "affine" else [GGMLType.I8])
        columns = scales.columns * self.group
        if codes.shape != (*scales.shape[:-1], columns * self.bits // 32):
            problem = f"has shape {codes.shape}, {quoted(scale)} has {scales.shape}"
            how = f"with {self.bits} bits in groups of {self.group}"
            raise FormatError(f"tensor {quoted(name)} {problem}, {how}; they do not belong together")
        shape = (*codes.shape[:-1], columns)
        if self.mode == "affine":
            return self._affine(codes, scales, shape)
        if self.mode == "mxfp8":
            return self._floats_of_8_bits(codes, scales, shape)
        make = fp4.mxfp4 if self.mode == "mxfp4" else fp4.nvfp4
        return make(name, _bytes(codes), scales, [name, scale])

    def _affine(self, codes: TensorSource, scales: TensorSource, shape: tuple[int, ...]) -> Weight:
        """Code * scale + minimum."""
        name = f"{self.stem}.biases"
        minimums = self.packed.shaped(name, FLOATS, scales.shape, of=scales.name)

        def read(start: int, stop: int) -> Slab:
            numbers = dense(words(codes, start, stop), self.bits)[:, : shape[-1]]
            return Slab(numbers, floats_of(scales, start, stop), minimums=floats_of(minimums, start, stop))

        return Integers(
            codes.name,
            shape,
            [codes.name, scales.name, name],
            np.arange(shape[-1]) // self.group,
            self.bits,
            None,
            max(map(precision_in_f16, (scales, minimums)), key=list(How).index),
            read,
        ).weight()

    def _floats_of_8_bits(self, codes: TensorSource, scales: TensorSource, shape: tuple[int, ...]) -> Weight:
        """E4M3 times powers of two."""

        def read(start: int, stop: int) -> NDArray[np.float32]:
            steps = E8M0[scales.read(start, stop)].repeat(self.group, axis=1)
            values: NDArray[np.float32] = E4M3[codes.read(start, stop)] * steps
            return values

        return as_floats(codes.name, shape, [codes.name, scales.name], read)


def _bytes(words: TensorSource) -> TensorSource:
    """Words of 32 bits as four bytes each."""
    return replace(words, shape=(*words.shape[:-1], words.columns * 4), type=GGMLType.I8)


def _of_experts(weight: Weight) -> Iterator[Weight]:
    """Of matrices of all experts each one."""
    floats = experts(weight.floats) if weight.floats else repeat(None)
    for source, each in zip(experts(weight.source), floats, strict=False):
        yield replace(weight, source=source, floats=each)
