"""Where the bits of a K block go. q: 256 levels counted from 0; s, t: scales and minima in steps, 16 apart.

Source: llama.cpp ggml-common.h, block_q*_K, and dequantize_row_q*_K in ggml-quants.c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.lanes import LANES

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@compiled
def pack_q2(q: Bytes, s: Floats, t: Floats, to: Bytes) -> None:
    """16 scales and minima, 64 bytes of quarters."""
    for j in range(16):
        to[j] = np.uint8(s[LANES * j]) | np.uint8(t[LANES * j]) << np.uint8(4)
    _pack_quarters(q, to[16:])


@compiled
def pack_q3(q: Bytes, s: Floats, to: Bytes) -> None:
    """32 bytes of third bits, 64 of quarters, 12 of 6-bit scales: nibbles first, their upper bits after."""
    _pack_planes(q, 2, to)
    _pack_quarters(q, to[32:])
    scales = to[96:]
    for j in range(4):
        scales[8 + j] = 0
    for j in range(16):
        six = np.uint8(s[LANES * j] + np.float32(32))
        if j < 8:
            scales[j] = six & np.uint8(15)
        else:
            scales[j - 8] |= (six & np.uint8(15)) << np.uint8(4)
        scales[8 + j % 4] |= (six >> np.uint8(4)) << np.uint8(2 * (j // 4))


@compiled
def pack_q4_k(q: Bytes, s: Floats, t: Floats, to: Bytes) -> None:
    """12 bytes of scales and minima from byte 4 on, 128 bytes of nibbles."""
    _pack_scales_and_mins(s, t, to[4:])
    _pack_nibbles(q, to[16:])


@compiled
def pack_q5_k(q: Bytes, s: Floats, t: Floats, to: Bytes) -> None:
    """12 bytes of scales and minima from byte 4 on, 32 of fifth bits, 128 bytes of nibbles."""
    _pack_scales_and_mins(s, t, to[4:])
    _pack_planes(q, 4, to[16:])
    _pack_nibbles(q, to[48:])


@compiled
def pack_q6(q: Bytes, s: Floats, to: Bytes) -> None:
    """128 bytes of nibbles, 64 of the two upper bits, 16 signed scales."""
    for half in range(2):
        for i in range(64):
            a, b = q[128 * half + i], q[128 * half + 64 + i]
            to[64 * half + i] = (a & np.uint8(15)) | (b << np.uint8(4))
        for i in range(32):
            bits = np.uint8(0)
            for k in range(4):
                bits |= (q[128 * half + 32 * k + i] >> np.uint8(4)) << np.uint8(2 * k)
            to[128 + 32 * half + i] = bits
    for j in range(16):
        to[192 + j] = np.uint8(np.int8(s[LANES * j]))


@compiled
def _pack_quarters(q: Bytes, to: Bytes) -> None:
    """The two lower bits: weights i, i + 32, i + 64, i + 96 of a half share a byte."""
    for half in range(2):
        for i in range(32):
            bits = np.uint8(0)
            for k in range(4):
                bits |= (q[128 * half + 32 * k + i] & np.uint8(3)) << np.uint8(2 * k)
            to[32 * half + i] = bits


@compiled
def _pack_planes(q: Bytes, bit: int, to: Bytes) -> None:
    """Bit k of byte i is bit `bit` of weight 32 k + i."""
    for i in range(32):
        bits = np.uint8(0)
        for k in range(8):
            bits |= ((q[32 * k + i] >> np.uint8(bit)) & np.uint8(1)) << np.uint8(k)
        to[i] = bits


@compiled
def _pack_nibbles(q: Bytes, to: Bytes) -> None:
    """The four lower bits: weights i and i + 32 of a quarter share a byte."""
    for quarter in range(4):
        for i in range(32):
            low, high = q[64 * quarter + i], q[64 * quarter + 32 + i]
            to[32 * quarter + i] = (low & np.uint8(15)) | (high << np.uint8(4))


@compiled
def _pack_scales_and_mins(s: Floats, t: Floats, to: Bytes) -> None:
    """Six bits each: 0..3 in a byte of their own, whose upper two bits those of 4..7 share."""
    for j in range(4):
        low_s, low_t = np.uint8(s[LANES * j]), np.uint8(t[LANES * j])
        high_s, high_t = np.uint8(s[LANES * (j + 4)]), np.uint8(t[LANES * (j + 4)])
        to[j] = low_s | (high_s >> np.uint8(4)) << np.uint8(6)
        to[4 + j] = low_t | (high_t >> np.uint8(4)) << np.uint8(6)
        to[8 + j] = (high_s & np.uint8(15)) | (high_t & np.uint8(15)) << np.uint8(4)
