"""Types of 4-bit floats (sign, 2 bits of exponent, 1 of mantissa): mxfp4 and nvfp4.

The magnitudes are 0, 1, 2, 3, 4, 6, 8, 12 halves of a step. Each encoder packs x (rows, n), finite, n a
multiple of the block, into out (rows, bytes); `weights` is ignored.
Source: llama.cpp ggml-quants.c, quantize_row_{mxfp4,nvfp4}_ref; layout: ggml-common.h, block_*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@compiled
def encode_mxfp4(x: Floats, weights: Floats, out: Bytes) -> None:
    """Blocks of 32: an exponent (E8M0), 32 nibbles; the largest magnitude lies between 4 and 8 steps."""
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 32):
            block, to = x[row, 32 * b : 32 * b + 32], out[row, 17 * b : 17 * b + 17]
            largest = _largest(block)
            exponent = np.int32(0)
            if largest > 0:
                log = np.float32(np.log2(np.float64(largest)))  # rounded as llama.cpp's log2f is
                exponent = (np.int32(np.floor(log)) + np.int32(125)) & np.int32(255)
            to[0] = np.uint8(exponent)
            _put_nibbles(block, _half_power_of_two(exponent), to[1:])


@compiled
def encode_nvfp4(x: Floats, weights: Floats, out: Bytes) -> None:
    """Blocks of 64: four scales (unsigned E4M3), one for 16 weights each, 64 nibbles."""
    for row in range(x.shape[0]):
        for part in range(x.shape[1] // 16):
            block, to = x[row, 16 * part : 16 * part + 16], out[row, 36 * (part // 4) :]
            at = part % 4
            code = _e4m3_code(_largest(block) / np.float32(6))
            to[at] = np.uint8(code)
            _put_nibbles(block, _half_e4m3(code), to[4 + 8 * at : 12 + 8 * at])


@compiled
def _largest(block: Floats) -> np.float32:
    """The largest magnitude."""
    largest = np.float32(0)
    for i in range(block.shape[0]):
        largest = max(largest, np.abs(block[i]))
    return largest


@compiled
def _put_nibbles(block: Floats, half_step: np.float32, to: Bytes) -> None:
    """The nearest floats, of two equally near ones the smaller; weights i and i + n / 2 share a byte."""
    half = block.shape[0] // 2
    for i in range(half):
        to[i] = _nearest(block[i], half_step) | (_nearest(block[i + half], half_step) << np.uint8(4))


@compiled
def _nearest(weight: np.float32, half_step: np.float32) -> np.uint8:
    magnitude = np.abs(weight)
    code = np.uint8(magnitude > np.float32(0.5) * half_step)
    code += np.uint8(magnitude > np.float32(1.5) * half_step)
    code += np.uint8(magnitude > np.float32(2.5) * half_step)
    code += np.uint8(magnitude > np.float32(3.5) * half_step)
    code += np.uint8(magnitude > np.float32(5) * half_step)
    code += np.uint8(magnitude > np.float32(7) * half_step)
    code += np.uint8(magnitude > np.float32(10) * half_step)
    if half_step == 0:
        code = np.uint8(0)
    negative = (weight < 0) & (code > 0)
    return np.uint8(code + np.uint8(negative) * np.uint8(8))


@compiled
def _half_power_of_two(exponent: np.int32) -> np.float32:
    """Half of the E8M0 number `exponent`: 2^(exponent - 128), the two least as denormals."""
    if exponent < 2:
        bits = np.uint32(0x00200000) << np.uint32(exponent)
    else:
        bits = np.uint32(exponent - 1) << np.uint32(23)
    value: np.float32 = np.uint32(bits).view(np.float32)
    return value


@compiled
def _e4m3_code(value: np.float32) -> np.int32:
    """`value` >= 0 rounded to unsigned E4M3 (bias 7), halves up; from 256 on 448 (0x7E) as in llama.cpp."""
    bits = np.float32(value).view(np.uint32)
    exponent = np.int32(bits >> np.uint32(23)) - np.int32(120)
    if exponent <= 0:
        return min(np.int32(value * np.float32(512) + np.float32(0.5)), np.int32(7))
    mantissa = np.int32((bits >> np.uint32(20)) & np.uint32(7)) + np.int32(
        (bits >> np.uint32(19)) & np.uint32(1)
    )
    code = (exponent << np.int32(3)) + mantissa
    return np.int32(0x7E) if code >= 15 << 3 else np.int32(code)


@compiled
def _half_e4m3(code: np.int32) -> np.float32:
    """Half of the unsigned E4M3 number `code`."""
    exponent, mantissa = code >> np.int32(3), np.float32(code & np.int32(7))
    if exponent == 0:
        return mantissa * np.float32(2.0**-10)
    power = np.uint32(np.uint32(exponent + 119) << np.uint32(23)).view(np.float32)  # 2^(exponent - 8)
    return (np.float32(1) + mantissa / np.float32(8)) * power
