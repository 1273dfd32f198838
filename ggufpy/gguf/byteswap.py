"""Turning big-endian tensor data into little-endian.

Only fields of several bytes change; bytes that hold packed weights stay. Source: llama.cpp ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.types import GGMLType

# Type: fields of a block that are numbers of several bytes, each (offset, bytes).
_FIELDS: dict[GGMLType, tuple[tuple[int, int], ...]] = {
    GGMLType.F32: ((0, 4),),
    GGMLType.F16: ((0, 2),),
    GGMLType.BF16: ((0, 2),),
    GGMLType.F64: ((0, 8),),
    GGMLType.I8: (),
    GGMLType.I16: ((0, 2),),
    GGMLType.I32: ((0, 4),),
    GGMLType.I64: ((0, 8),),
    GGMLType.Q4_0: ((0, 2),),
    GGMLType.Q4_1: ((0, 2), (2, 2)),
    # The fifth bits, declared as four bytes, are written and read as one native 32-bit number.
    GGMLType.Q5_0: ((0, 2), (2, 4)),
    GGMLType.Q5_1: ((0, 2), (2, 2), (4, 4)),
    GGMLType.Q8_0: ((0, 2),),
    GGMLType.Q2_K: ((80, 2), (82, 2)),
    GGMLType.Q3_K: ((108, 2),),
    GGMLType.Q4_K: ((0, 2), (2, 2)),
    GGMLType.Q5_K: ((0, 2), (2, 2)),
    GGMLType.Q6_K: ((208, 2),),
    GGMLType.IQ1_S: ((0, 2), *((at, 2) for at in range(34, 50, 2))),
    GGMLType.IQ2_XS: ((0, 2), *((at, 2) for at in range(2, 66, 2))),
    GGMLType.IQ2_S: ((0, 2),),
    GGMLType.IQ3_S: ((0, 2),),
    GGMLType.IQ4_NL: ((0, 2),),
    GGMLType.IQ4_XS: ((0, 2), (2, 2)),
    GGMLType.TQ1_0: ((52, 2),),
    GGMLType.TQ2_0: ((64, 2),),
    GGMLType.MXFP4: (),
    GGMLType.NVFP4: (),
    GGMLType.Q1_0: ((0, 2),),
    GGMLType.Q2_0: ((0, 2),),
    # Not IQ1_M, IQ2_XXS, IQ3_XXS: ggml reads numbers there whose declared fields are narrower.
}


def little_endian(type: GGMLType, tensor: str) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The function that swaps big-endian rows (rows, row_bytes) of `type` into new, little-endian ones.

    Raises UnsupportedModelError, naming `tensor`, for a type whose layout is not known here.
    """
    if type not in _FIELDS:
        raise UnsupportedModelError(
            f"tensor '{tensor}' is {type.label} in a big-endian file, which ggufpy cannot swap; "
            "get the little-endian file"
        )

    def swap(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        swapped = rows.copy()
        blocks = swapped.reshape(-1, type.block_bytes)
        for start, size in _FIELDS[type]:
            field = blocks[:, start : start + size]
            field[...] = field[:, ::-1].copy()
        return swapped

    return swap
