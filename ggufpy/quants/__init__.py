"""Block formats: the table of types, their encoders and the decoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, ShapeError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.formats import (
    blocks32,
    blocks32_weighted,
    floats,
    fp4,
    iq_quants1,
    iq_quants2,
    iq_quants3,
    iq_quants4,
    k_symmetric,
    k_with_min,
    ternary,
)
from ggufpy.quants.formats.decoding import decode

__all__ = ["ENCODERS", "decode", "encode", "quantized", "unblocked"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Encoder = Callable[[Floats, Floats, Bytes], None]
Search = Literal["reference", "thorough"]


def _either(plain: Encoder, weighted: Encoder) -> Encoder:
    """Run `weighted` where there are weights; neither is compiled before it is needed."""

    def encode_either(x: Floats, weights: Floats, out: Bytes) -> None:
        (weighted if weights.size else plain)(x, weights, out)

    return encode_either


# Each packs x (rows, n), n a multiple of the block size, into out (rows, row_bytes). In between stands the
# importance of each column, (n,), or an empty array for none; types whose search has no use for it ignore it.
ENCODERS: dict[GGMLType, Encoder] = {
    GGMLType.F32: floats.encode_f32,
    GGMLType.F16: floats.encode_f16,
    GGMLType.BF16: floats.encode_bf16,
    GGMLType.Q8_0: blocks32.encode_q8_0,
    GGMLType.Q4_0: _either(blocks32.encode_q4_0, blocks32_weighted.encode_q4_0),
    GGMLType.Q4_1: _either(blocks32.encode_q4_1, blocks32_weighted.encode_q4_1),
    GGMLType.Q5_0: _either(blocks32.encode_q5_0, blocks32_weighted.encode_q5_0),
    GGMLType.Q5_1: _either(blocks32.encode_q5_1, blocks32_weighted.encode_q5_1),
    GGMLType.Q2_K: k_with_min.encode_q2_k,
    GGMLType.Q3_K: k_symmetric.encode_q3_k,
    GGMLType.Q4_K: k_with_min.encode_q4_k,
    GGMLType.Q5_K: k_with_min.encode_q5_k,
    GGMLType.Q6_K: k_symmetric.encode_q6_k,
    GGMLType.IQ1_S: iq_quants1.encode_iq1_s,
    GGMLType.IQ1_M: iq_quants1.encode_iq1_m,
    GGMLType.IQ2_XXS: iq_quants2.encode_iq2_xxs,
    GGMLType.IQ2_XS: iq_quants2.encode_iq2_xs,
    GGMLType.IQ2_S: iq_quants2.encode_iq2_s,
    GGMLType.IQ3_XXS: iq_quants3.encode_iq3_xxs,
    GGMLType.IQ3_S: iq_quants3.encode_iq3_s,
    GGMLType.IQ4_NL: iq_quants4.encode_iq4_nl,
    GGMLType.IQ4_XS: iq_quants4.encode_iq4_xs,
    GGMLType.TQ1_0: ternary.encode_tq1_0,
    GGMLType.TQ2_0: ternary.encode_tq2_0,
    GGMLType.MXFP4: fp4.encode_mxfp4,
    GGMLType.NVFP4: fp4.encode_nvfp4,
    GGMLType.Q1_0: ternary.encode_q1_0,
    GGMLType.Q2_0: ternary.encode_q2_0,
}

# What `search="thorough"` runs in place of them: slower, for lower error.
THOROUGH_ENCODERS: dict[GGMLType, Encoder] = {
    GGMLType.Q4_0: partial(blocks32_weighted.encode_q4_0, trials=8),
    GGMLType.Q4_1: partial(blocks32_weighted.encode_q4_1, trials=8),
    GGMLType.Q5_0: partial(blocks32_weighted.encode_q5_0, trials=8),
    GGMLType.Q5_1: partial(blocks32_weighted.encode_q5_1, trials=8),
    GGMLType.Q2_K: partial(k_with_min.encode_q2_k, rounds=4),
    GGMLType.Q3_K: partial(k_symmetric.encode_q3_k, rounds=4),
    GGMLType.Q4_K: partial(k_with_min.encode_q4_k, rounds=4),
    GGMLType.Q5_K: partial(k_with_min.encode_q5_k, rounds=4),
    GGMLType.Q6_K: partial(k_symmetric.encode_q6_k, rounds=4),
}

# Types whose search is blind without the importance of the columns.
NEEDS_WEIGHTS = frozenset(
    {
        GGMLType.IQ1_S,
        GGMLType.IQ1_M,
        GGMLType.IQ2_XXS,
        GGMLType.IQ2_XS,
        GGMLType.IQ2_S,
        GGMLType.IQ3_XXS,
    }
)

# Work for one thread at a time: its floats stay in the L2 cache between decoding and encoding.
_CHUNK_WEIGHTS = 1 << 17
_NO_WEIGHTS = np.empty(0, np.float32)


def encode(
    x: Floats, type: GGMLType | str, weights: Floats | None = None, *, search: Search = "reference"
) -> Bytes:
    """Pack rows of floats into blocks of `type`, or of that name: (rows, n) -> (rows, type.row_bytes(n)).

    weights: (n,), how much an error in each column counts. search: "reference" finds what llama.cpp finds,
    "thorough" takes longer for lower error where there is a way.
    Raises ShapeError if blocks do not divide a row or weights are not (n,), UnsupportedModelError if `type`
    has no encoder, FormatError for NaN or Inf in a type of blocks or in weights and for a type that needs
    weights without them. Finite values beyond the range of f16 become Inf, or make an Inf scale.
    """
    type = GGMLType.named(type)
    if type not in ENCODERS:
        known = ", ".join(each.label for each in ENCODERS)
        raise UnsupportedModelError(f"ggufpy cannot write {type.label}; it writes {known}")
    if x.ndim != 2 or x.dtype != np.float32:
        raise ShapeError(f"encode takes float32 (rows, n), not {x.dtype} {x.shape}")
    importance = _checked_weights(weights, type, x.shape[1])
    out = np.empty((x.shape[0], type.row_bytes(x.shape[1])), np.uint8)
    if type.block_size > 1 and not np.isfinite(_largest(x)):
        raise FormatError(f"{type.label} cannot hold NaN or Inf, which are there; choose bf16 or f32")
    encoder = ENCODERS[type]
    if search == "thorough":
        encoder = THOROUGH_ENCODERS.get(type, encoder)
    encoder(_plain(x), importance, out)
    return out


def quantized(
    source: TensorSource,
    type: GGMLType,
    weights: Floats | None = None,
    *,
    search: Search = "reference",
    threads: int | None = None,
) -> TensorSource:
    """`source` (F32, F16, BF16 or F64) as rows of `type`, encoded when they are read.

    threads: how many encode, by default as many as there are cores.
    weights, search: as in `encode`; for a tensor of experts (experts, rows, n) weights may be (experts, n).
    Raises UnsupportedModelError for other sources, ShapeError for other weights; when rows are read, the
    FormatErrors of `encode`, also for finite values beyond the range of f16 in blocks and F16.
    """
    if source.type is type:
        return source
    if source.type not in floats.DTYPES:
        raise UnsupportedModelError(
            f"tensor '{source.name}' is {source.type.label}; only floats can be re-encoded"
        )
    rows_per_expert = _rows_per_expert(source, weights)

    def encode_chunk(data: Bytes, first: int) -> Bytes:
        """`data`: rows from row `first` of the tensor on, all of one expert."""
        x = floats.decode(data, source.type)
        own = weights if weights is None or weights.ndim == 1 else weights[first // rows_per_expert]
        try:
            check_range(x, type)
            return encode(x, type, own, search=search)
        except FormatError as exc:
            raise FormatError(f"tensor '{source.name}': {exc}") from exc

    def read(start: int, stop: int) -> Bytes:
        data = source.read(start, stop)
        step = max(1, _CHUNK_WEIGHTS // source.columns)
        borders = {*range(start, stop, step), *range(0, stop, max(1, rows_per_expert))}
        firsts = sorted(row for row in borders if row >= start)
        chunks = [data[a - start : b - start] for a, b in pairwise([*firsts, stop])]
        return np.concatenate(list(_pool(threads).map(encode_chunk, chunks, firsts)))

    return TensorSource(source.name, source.shape, type, read)


def unblocked(source: TensorSource) -> TensorSource:
    """`source`, in F32 if it is of blocks; rows are decoded when they are read."""
    if source.type.block_size == 1:
        return source

    def read(start: int, stop: int) -> Bytes:
        return decode(source.read(start, stop), source.type).view(np.uint8)

    return TensorSource(source.name, source.shape, GGMLType.F32, read)


def _checked_weights(weights: Floats | None, type: GGMLType, columns: int) -> Floats:
    if weights is None:
        if type in NEEDS_WEIGHTS:
            raise FormatError(f"{type.label} needs the importance of the columns; give an importance matrix")
        return _NO_WEIGHTS
    if weights.shape != (columns,):
        raise ShapeError(f"rows of {columns} need weights of shape ({columns},), not {weights.shape}")
    if not np.isfinite(weights).all():
        raise FormatError("the importance of the columns has NaN or Inf; make the importance matrix anew")
    return _plain(weights)


def _plain(values: Floats) -> Floats:
    """`values` as the encoders are compiled for; read-only ones, as of a mapped file, would compile anew."""
    return np.require(values, np.float32, ["C", "A", "W"])


def _rows_per_expert(source: TensorSource, weights: Floats | None) -> int:
    """How many rows share weights."""
    if weights is None or weights.shape == (source.columns,):
        return source.rows
    if len(source.shape) != 3 or weights.shape != (source.shape[0], source.columns):
        raise ShapeError(f"tensor '{source.name}' is {source.shape}, its weights are {weights.shape}")
    return source.shape[1]


def check_range(x: Floats, type: GGMLType) -> None:
    """What a type would make infinite is refused with FormatError, and what was when it became f32."""
    largest = _largest(x)
    if largest == np.inf and type.block_size == 1:
        raise FormatError("a number is beyond the range of f32; no type has more, get the weights again")
    limit = {GGMLType.F32: np.inf, GGMLType.BF16: floats.BF16_OVERFLOW}.get(type, floats.F16_OVERFLOW)
    if limit <= largest < np.inf:
        name = "bf16" if type is GGMLType.BF16 else "f16"
        needed = "" if type.block_size == 1 else f", which {type.label} needs"
        remedy = "f32" if type is GGMLType.BF16 else "bf16 or f32"
        raise FormatError(f"{largest:g} is beyond the range of {name}{needed}; choose {remedy}")


def _largest(x: Floats) -> float:
    """The largest magnitude, without a copy; NaN if there is one."""
    return max(float(x.max()), -float(x.min())) if x.size else 0.0


@cache
def _pool(threads: int | None) -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(threads or cores, thread_name_prefix="ggufpy-encode")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
