"""Block formats: the table of types, their encoders and the decoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, ShapeError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import blocks32, floats
from ggufpy.quants.decoding import decode

__all__ = ["ENCODERS", "decode", "encode", "quantized"]

# Each packs x (rows, n), n a multiple of the block size, into out (rows, row_bytes).
ENCODERS: dict[GGMLType, Callable[[NDArray[np.float32], NDArray[np.uint8]], None]] = {
    GGMLType.F32: floats.encode_f32,
    GGMLType.F16: floats.encode_f16,
    GGMLType.BF16: floats.encode_bf16,
    GGMLType.Q8_0: blocks32.encode_q8_0,
    GGMLType.Q4_0: blocks32.encode_q4_0,
    GGMLType.Q4_1: blocks32.encode_q4_1,
    GGMLType.Q5_0: blocks32.encode_q5_0,
    GGMLType.Q5_1: blocks32.encode_q5_1,
}

# Work for one thread at a time: its floats stay in the L2 cache between decoding and encoding.
_CHUNK_WEIGHTS = 1 << 17


def encode(x: NDArray[np.float32], type: GGMLType) -> NDArray[np.uint8]:
    """Pack rows of floats into blocks of `type`: (rows, n) -> (rows, type.row_bytes(n)).

    Raises ShapeError if blocks do not divide a row, UnsupportedModelError if `type` has no encoder,
    FormatError for NaN or Inf in a type of blocks. Finite values beyond the range of f16 become Inf, or make
    an Inf scale.
    """
    if type not in ENCODERS:
        known = ", ".join(each.label for each in ENCODERS)
        raise UnsupportedModelError(f"ggufpy cannot write {type.label}; it writes {known}")
    if x.ndim != 2 or x.dtype != np.float32:
        raise ShapeError(f"encode takes float32 (rows, n), not {x.dtype} {x.shape}")
    out = np.empty((x.shape[0], type.row_bytes(x.shape[1])), np.uint8)
    if type.block_size > 1 and not np.isfinite(_largest(x)):
        raise FormatError(f"{type.label} cannot hold NaN or Inf, which are there; choose bf16 or f32")
    ENCODERS[type](np.ascontiguousarray(x), out)
    return out


def quantized(source: TensorSource, type: GGMLType) -> TensorSource:
    """`source` (F32, F16, BF16 or F64) as rows of `type`, encoded when they are read, on all cores.

    Raises UnsupportedModelError for other sources; FormatError, when rows are read, for weights that `type`
    cannot hold: NaN or Inf in blocks, finite ones beyond the range of f16 in blocks and F16.
    """
    if source.type is type:
        return source
    if source.type not in floats.DTYPES:
        raise UnsupportedModelError(
            f"tensor '{source.name}' is {source.type.label}; only floats can be re-encoded"
        )

    def encode_chunk(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        x = floats.decode(data, source.type)
        try:
            _check_range(x, type)
            return encode(x, type)
        except FormatError as exc:
            raise FormatError(f"tensor '{source.name}': {exc}") from exc

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        data = source.read(start, stop)
        step = max(1, _CHUNK_WEIGHTS // source.columns)
        chunks = [data[first : first + step] for first in range(0, stop - start, step)]
        return np.concatenate(list(_pool().map(encode_chunk, chunks)))

    return TensorSource(source.name, source.shape, type, read)


def _check_range(x: NDArray[np.float32], type: GGMLType) -> None:
    largest = _largest(x)
    if type not in (GGMLType.F32, GGMLType.BF16) and floats.F16_OVERFLOW <= largest < np.inf:
        raise FormatError(
            f"{largest:g} is beyond the range of f16, which {type.label} needs; choose bf16 or f32"
        )


def _largest(x: NDArray[np.float32]) -> float:
    """The largest magnitude, without a copy; NaN if there is one."""
    return max(float(x.max()), -float(x.min())) if x.size else 0.0


@cache
def _pool() -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(cores, thread_name_prefix="ggufpy-encode")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
