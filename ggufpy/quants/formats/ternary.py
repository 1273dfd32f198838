"""Types of one or two levels beside zero: tq1_0, tq2_0, q2_0 (-d, 0, d) and q1_0 (-d, d).

Each encoder packs x (rows, n), finite, n a multiple of the block, into out (rows, bytes); `weights` do not
matter.
Source: llama.cpp ggml-quants.c, quantize_row_*_ref; layout: ggml-common.h, block_*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import put_f16

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@compiled
def encode_tq1_0(x: Floats, weights: Floats, out: Bytes) -> None:
    """52 bytes of five base-3 digits (the last four bytes have four), f16 d; d is the largest magnitude."""
    digits = np.empty(256, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 54 * b : 54 * b + 54]
            put_f16(to[52:], _round_to_ternary(block, digits))
            _pack_base_3(digits[:160], to[:32], 32)
            _pack_base_3(digits[160:240], to[32:48], 16)
            _pack_base_3(digits[240:], to[48:52], 4)


@compiled
def encode_tq2_0(x: Floats, weights: Floats, out: Bytes) -> None:
    """Twice 32 bytes of four digits, 32 weights apart, f16 d; d is the largest magnitude."""
    digits = np.empty(256, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 66 * b : 66 * b + 66]
            put_f16(to[64:], _round_to_ternary(block, digits))
            for half in range(2):
                for i in range(32):
                    at = 128 * half + i
                    low = digits[at] | (digits[at + 32] << np.uint8(2))
                    high = digits[at + 64] | (digits[at + 96] << np.uint8(2))
                    to[32 * half + i] = low | (high << np.uint8(4))


@compiled
def encode_q2_0(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 16 bytes of four neighbouring digits; d is the largest magnitude."""
    digits = np.empty(64, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 64):
            block, to = x[row, 64 * b : 64 * b + 64], out[row, 18 * b : 18 * b + 18]
            put_f16(to, _round_to_ternary(block, digits))
            for i in range(16):
                low = digits[4 * i] | (digits[4 * i + 1] << np.uint8(2))
                high = digits[4 * i + 2] | (digits[4 * i + 3] << np.uint8(2))
                to[2 + i] = low | (high << np.uint8(4))


@compiled
def encode_q1_0(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 16 bytes of signs, 1 for >= 0; d is the mean magnitude."""
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 128):
            block, to = x[row, 128 * b : 128 * b + 128], out[row, 18 * b : 18 * b + 18]
            total = np.float32(0)
            for i in range(128):
                total += np.abs(block[i])
            put_f16(to, total / np.float32(128))
            for byte in range(16):
                bits = np.uint8(0)
                for i in range(8):
                    bits |= np.uint8(block[8 * byte + i] >= 0) << np.uint8(i)
                to[2 + byte] = bits


@compiled
def _round_to_ternary(block: Floats, digits: Bytes) -> np.float32:
    """Let digits be 0, 1, 2 for weights near -d, 0, d, halves away from 0; d, the largest magnitude."""
    bits = block.view(np.uint32)
    largest = np.uint32(0)  # as integers, magnitudes compare the same and a vector at a time
    for i in range(block.shape[0]):
        largest = max(largest, bits[i] & np.uint32(0x7FFFFFFF))
    d: np.float32 = np.uint32(largest).view(np.float32)
    per_step = np.float32(0) if d == 0 else np.float32(1) / d
    if not np.isfinite(per_step):
        per_step = np.float32(0)
    for i in range(block.shape[0]):
        steps = block[i] * per_step
        digits[i] = np.uint8(1) + np.uint8(steps >= np.float32(0.5)) - np.uint8(steps <= np.float32(-0.5))
    return d


@compiled
def _pack_base_3(digits: Bytes, to: Bytes, stride: int) -> None:
    """Byte i gets the digits i, i + stride, ..., first one highest, as the fraction of 256 rounded up."""
    for i in range(stride):
        value = np.uint32(0)
        for k in range(5):
            at = i + k * stride
            value = value * np.uint32(3) + (np.uint32(digits[at]) if at < digits.shape[0] else np.uint32(0))
        to[i] = (value * np.uint32(256) + np.uint32(242)) // np.uint32(243)
