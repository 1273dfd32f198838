"""Floating-point types: f32, f16, bf16, and f64 to read from. Values are rounded to nearest, ties to even."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.floats import DTYPES, decode
from ggufpy.quants.formats.compiled import compiled

__all__ = [
    "BF16_OVERFLOW",
    "DTYPES",
    "F16_OVERFLOW",
    "decode",
    "encode_bf16",
    "encode_f16",
    "encode_f32",
    "f16_bits",
    "f16_value",
    "put_f16",
]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# The least magnitudes that round to Inf.
F16_OVERFLOW = 65520.0
BF16_OVERFLOW = (2 - 2**-8) * 2.0**127


def encode_f32(x: Floats, weights: Floats, out: Bytes) -> None:
    """Copy `x` (rows, n) as it is into `out` (rows, 4 n)."""
    out.view("<f4")[:] = x


def encode_f16(x: Floats, weights: Floats, out: Bytes) -> None:
    """Round `x` (rows, n) into `out` (rows, 2 n)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        out.view("<f2")[:] = x


def encode_bf16(x: Floats, weights: Floats, out: Bytes) -> None:
    """Round `x` (rows, n) into `out` (rows, 2 n). Source: llama.cpp ggml-impl.h, fp32_to_bf16."""
    _encode_bf16(np.ascontiguousarray(x).view(np.uint32), out.view(np.uint16))


@compiled
def _encode_bf16(bits: NDArray[np.uint32], out: NDArray[np.uint16]) -> None:
    rows, n = bits.shape
    for row in range(rows):
        for i in range(n):
            b = bits[row, i]
            if (b & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
                out[row, i] = (b >> np.uint32(16)) | np.uint32(64)  # a NaN stays one when its low bits go
            else:
                even = (b >> np.uint32(16)) & np.uint32(1)
                out[row, i] = (b + np.uint32(0x7FFF) + even) >> np.uint32(16)


@compiled
def f16_bits(x: np.float32) -> np.uint16:
    """Bits of `x` rounded to f16; beyond its range, Inf. `x` is finite or Inf."""
    bits = np.float32(x).view(np.uint32)
    sign = (bits >> np.uint32(16)) & np.uint32(0x8000)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    if magnitude >= np.uint32(0x477FF000):  # 65520 and above round to Inf
        return np.uint16(sign | np.uint32(0x7C00))
    if magnitude < np.uint32(0x38800000):  # below 2^-14 f16 counts in 2^-24, as the low bits of 0.5 + x do
        lifted = np.uint32(magnitude).view(np.float32) + np.float32(0.5)
        return np.uint16(sign | (np.float32(lifted).view(np.uint32) - np.uint32(0x3F000000)))
    even = (magnitude >> np.uint32(13)) & np.uint32(1)
    rounded = magnitude + np.uint32(0x0FFF) + even - np.uint32(0x38000000)  # the exponent's bias: 127 -> 15
    return np.uint16(sign | (rounded >> np.uint32(13)))


@compiled
def f16_value(bits: np.uint16) -> np.float32:
    """The value of finite f16 bits, or Inf."""
    magnitude = np.uint32(bits) & np.uint32(0x7FFF)
    if magnitude >= np.uint32(0x7C00):
        value = np.float32(np.inf)
    elif magnitude < np.uint32(0x0400):  # denormal: counts in 2^-24
        value = np.float32(magnitude) * np.float32(2.0**-24)
    else:
        shifted = (magnitude << np.uint32(13)) + np.uint32(0x38000000)  # the exponent's bias: 15 -> 127
        value = np.uint32(shifted).view(np.float32)
    return -value if bits & np.uint16(0x8000) else value


@compiled
def put_f16(to: Bytes, value: np.float32) -> np.float32:
    """Store `value` as the first two bytes of `to`; what it is after rounding."""
    bits = f16_bits(value)
    to[0], to[1] = np.uint8(bits & 0xFF), np.uint8(bits >> 8)
    return f16_value(bits)
