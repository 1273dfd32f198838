"""Floating-point types of 8 bits and fewer, as tables of all their values, which bf16 and f32 hold exactly.

Source: OCP 8-bit Floating Point Specification (E4M3, E5M2), OCP Microscaling Formats (E8M0, E2M1, E2M3).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

Floats = NDArray[np.float32]


def _values(exponent_bits: int, mantissa_bits: int) -> Floats:
    """Sign, exponent, mantissa from the highest bit on: the value of each code, with no NaN nor Inf yet."""
    codes = np.arange(1 << (1 + exponent_bits + mantissa_bits))
    mantissa = codes % (1 << mantissa_bits) / (1 << mantissa_bits)
    exponent = codes >> mantissa_bits & ((1 << exponent_bits) - 1)
    bias = (1 << (exponent_bits - 1)) - 1
    sign = np.where(codes >> (exponent_bits + mantissa_bits), -1.0, 1.0)
    magnitude = np.ldexp(mantissa + (exponent > 0), np.maximum(exponent, 1) - bias)
    values: Floats = (sign * magnitude).astype(np.float32)
    return values


def _e4m3() -> Floats:
    """Without infinities: one code of either sign is NaN."""
    values = _values(4, 3)
    values[[0x7F, 0xFF]] = np.nan
    return values


def _e5m2() -> Floats:
    values = _values(5, 2)
    for first, sign in ((0x7C, 1), (0xFC, -1)):
        values[first : first + 4] = [sign * np.inf, np.nan, np.nan, np.nan]
    return values


def _e8m0() -> Floats:
    """Powers of two, and NaN."""
    return np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan).astype(np.float32)


E4M3, E5M2, E8M0, E2M1, E2M3 = _e4m3(), _e5m2(), _e8m0(), _values(2, 1), _values(2, 3)


def as_bf16(source: TensorSource, table: Floats) -> TensorSource:
    """Codes, a byte each, as the values of a table of 256, which bf16 holds: (..., n) bytes -> (..., n)."""
    bits = (table.view(np.uint32) >> 16).astype("<u2")

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        return bits[source.read(start, stop)].view(np.uint8)

    return replace(source, type=GGMLType.BF16, read=read)
