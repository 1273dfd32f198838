"""Random bytes as blocks of weights: their scales are set so that weights deviate by about 0.02."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.types import GGMLType
from ggufpy.quants.choice.presets import PRESETS

DEVIATION = 0.02

Fill = Callable[[NDArray[np.uint8]], None]  # of whole rows, in place

# Offset of each f16 scale in the block, and its size for weights with a deviation of 1; that of a minimum
# brings their mean to zero. Sizes from the deviation of uniform quants, e.g. q4_0: -8..7 deviate by 4.61.
SCALES: dict[GGMLType, tuple[tuple[int, float], ...]] = {
    GGMLType.Q4_0: ((0, 1 / 4.61),),
    GGMLType.Q4_1: ((0, 1 / 4.61), (2, -7.5 / 4.61)),
    GGMLType.Q8_0: ((0, 1 / 73.9),),
    GGMLType.Q5_0: ((0, 1 / 9.23),),
    GGMLType.Q5_1: ((0, 1 / 9.23), (2, -15.5 / 9.23)),
    GGMLType.Q2_K: ((80, 1 / 13.9), (82, 1.5 / 13.9)),
    GGMLType.Q3_K: ((108, 1 / 43.3),),
    GGMLType.Q4_K: ((0, 1 / 258), (2, 7.5 / 258)),
    GGMLType.Q5_K: ((0, 1 / 527), (2, 15.5 / 527)),
    GGMLType.Q6_K: ((208, 1 / 1366),),
    GGMLType.IQ1_S: ((0, 1 / 7.21),),
    GGMLType.IQ2_XXS: ((0, 1 / 53.2),),
    GGMLType.IQ2_XS: ((0, 1 / 56),),
    GGMLType.IQ2_S: ((0, 1 / 56.4),),
    GGMLType.IQ3_XXS: ((0, 1 / 142),),
    GGMLType.IQ3_S: ((0, 1 / 140),),
    GGMLType.IQ4_NL: ((0, 1 / 67.2),),
    GGMLType.IQ4_XS: ((0, 1 / 1251),),
    GGMLType.TQ1_0: ((52, 1 / 0.817),),
    GGMLType.TQ2_0: ((64, 1 / 1.12),),
    GGMLType.Q1_0: ((0, 1.0),),
    GGMLType.Q2_0: ((0, 1 / 1.12),),
}
# Word, bits that stay random (sign and mantissa), and the exponent that makes 2**-6 of it.
FLOATS: dict[GGMLType, tuple[str, int, int]] = {
    GGMLType.F32: ("<u4", 0x807FFFFF, 121 << 23),
    GGMLType.F16: ("<u2", 0x83FF, 9 << 10),
    GGMLType.BF16: ("<u2", 0x807F, 121 << 7),
}


def set_norm(rows: NDArray[np.uint8]) -> None:
    """Norm weights between 0.5 and 1."""
    bits = rows.view("<u4")
    bits &= 0x007FFFFF
    bits |= 126 << 23


def set_decay(rows: NDArray[np.uint8]) -> None:
    """Between -1 and -0.5: how fast a state forgets."""
    set_norm(rows)
    rows.view("<u4")[...] |= 1 << 31


def fill_of(kind: GGMLType) -> Fill:
    """What makes weights of `kind` of random bytes."""
    if kind in FLOATS:
        return _set_floats(kind)
    return _FILLS.get(kind) or _set_scales(kind)


def _set_floats(kind: GGMLType) -> Fill:
    """Weights of either sign between 2**-6 and 2**-5."""
    word, keep, exponent = FLOATS[kind]

    def fill(rows: NDArray[np.uint8]) -> None:
        bits = rows.view(word)
        bits &= keep
        bits |= exponent

    return fill


def _set_scales(kind: GGMLType) -> Fill:
    """Scales of the size in SCALES, but for their five lowest bits, which stay random."""

    def fill(rows: NDArray[np.uint8]) -> None:
        blocks = rows.reshape(-1, kind.block_bytes)
        for offset, size in SCALES[kind]:
            high, low = divmod(int(np.float16(size * DEVIATION).view(np.uint16)), 256)
            blocks[:, offset + 1] = high
            blocks[:, offset] = low & ~31 | blocks[:, offset] & 31

    return fill


def _set_iq1_m(rows: NDArray[np.uint8]) -> None:
    """The f16 scale is in the high nibbles of the last four words; the lowest stays random."""
    blocks = rows.reshape(-1, GGMLType.IQ1_M.block_bytes)
    scale = int(np.float16(DEVIATION / 7.21).view(np.uint16))
    for k in range(1, 4):
        high = blocks[:, 49 + 2 * k]
        high &= 0x0F
        high |= (scale >> 4 * k & 0x0F) << 4


def _set_mxfp4(rows: NDArray[np.uint8]) -> None:
    """An exponent of -8 or -9; e2m1 deviates by 5.85 halves."""
    exponents = rows.reshape(-1, GGMLType.MXFP4.block_bytes)[:, 0]
    exponents &= 1
    exponents += 119


def _set_nvfp4(rows: NDArray[np.uint8]) -> None:
    """Four scales of 2 to 5 times 2**-9, again for halves."""
    scales = rows.reshape(-1, GGMLType.NVFP4.block_bytes)[:, :4]
    scales &= 3
    scales += 2


_FILLS: dict[GGMLType, Fill] = {
    GGMLType.IQ1_M: _set_iq1_m,
    GGMLType.MXFP4: _set_mxfp4,
    GGMLType.NVFP4: _set_nvfp4,
}

# `general.file_type` of a file that has only this type: the preset of its name, else the first made of it.
FILE_TYPES = {preset.type: preset.id for preset in reversed(PRESETS)}
FILE_TYPES |= {preset.type: preset.id for preset in PRESETS if preset.name == preset.type.name}
