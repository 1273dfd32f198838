"""Rows of any tensor type as floats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import ShapeError
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.formats import floats

_INTEGERS = {GGMLType.I8: "i1", GGMLType.I16: "<i2", GGMLType.I32: "<i4", GGMLType.I64: "<i8"}

# Types of activations, which the kernels do not know. Source: llama.cpp ggml-common.h, block_q8_1,
# block_q8_K.
_ACTIVATIONS = {
    GGMLType.Q8_1: np.dtype([("d", "<f2"), ("sum", "<f2"), ("q", "i1", 32)]),
    GGMLType.Q8_K: np.dtype([("d", "<f4"), ("q", "i1", 256), ("sums", "<i2", 16)]),
}


def decode(data: NDArray[np.uint8], type: GGMLType | str) -> NDArray[np.float32]:
    """(rows, row_bytes) bytes of `type`, or of that name, as in a file -> (rows, n) values, rounded to f32.

    Values of F32 may share the memory of `data`. Raises ShapeError if `data` is not of two dimensions or
    blocks do not divide a row, UnsupportedModelError if no type has that name.
    """
    type = GGMLType.named(type)
    if data.ndim != 2 or data.dtype != np.uint8 or data.shape[1] % type.block_bytes:
        raise ShapeError(
            f"decode takes uint8 (rows, bytes), {type.label} in blocks of {type.block_bytes} bytes, "
            f"not {data.dtype} {data.shape}"
        )
    data = np.ascontiguousarray(data)
    if type in floats.DTYPES:
        return floats.decode(data, type)
    if type in _INTEGERS:
        return data.view(_INTEGERS[type]).astype(np.float32)
    columns = data.shape[1] // type.block_bytes * type.block_size
    if type in _ACTIVATIONS:
        blocks = data.view(_ACTIVATIONS[type])
        values: NDArray[np.float32] = blocks["d"].astype(np.float32)[:, :, None] * blocks["q"]
        return values.reshape(len(data), columns)
    out = np.empty((len(data), columns), np.float32)
    pointer = ffi.from_buffer("float[]", out)
    status = lib.gg_expand(type, out.size, ffi.from_buffer(data), data.nbytes, pointer)
    if status:
        raise ShapeError(f"{data.nbytes} bytes are not {out.size} weights of type {type.label}")
    return out
