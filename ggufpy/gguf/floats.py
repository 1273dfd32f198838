"""Floating-point types as they lie in files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.types import GGMLType

# How the bytes of a type are read; bf16 is the upper half of an f32.
DTYPES = {GGMLType.F32: "<f4", GGMLType.F16: "<f2", GGMLType.BF16: "<u2", GGMLType.F64: "<f8"}


def decode(data: NDArray[np.uint8], type: GGMLType) -> NDArray[np.float32]:
    """(rows, row_bytes) little-endian bytes of a type in DTYPES -> (rows, n) values."""
    values = data.view(DTYPES[type])
    if type is GGMLType.BF16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
