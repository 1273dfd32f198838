"""Floats of 4 bits (E2M1) in blocks: MXFP4, and NVFP4, which has a factor for the whole matrix, too.

Both are GGUF's mxfp4 and nvfp4 but for the order of the nibbles. Source: ggml-common.h, block_mxfp4,
block_nvfp4; OCP Microscaling Formats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized.method import FLOATS, How, Packed, Weight, as_floats, floats_of
from ggufpy.checkpoint.small_floats import E2M1, E4M3, E8M0
from ggufpy.errors import FormatError
from ggufpy.gguf import sources
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_MX, _NV = 32, 16  # weights of one scale


def weights(packed: Packed) -> list[Weight]:
    """Experts as gpt-oss has them: `_blocks` (experts, outputs, n, 16) and `_scales`, become X.weight."""
    packed.check_keys(("quant_method", "modules_to_not_convert", "dequantize"))
    made = []
    for stem in packed.stems("_blocks"):
        blocks = packed.part(f"{stem}_blocks", [GGMLType.I8])
        scales = packed.shaped(f"{stem}_scales", [GGMLType.I8], blocks.shape[:-1], of=blocks.name)
        codes = sources.reshaped(blocks, (*scales.shape[:-1], scales.columns * blocks.columns))
        made.append(mxfp4(f"{stem}.weight", codes, scales, [blocks.name, scales.name]))
    return made


def mxfp4(name: str, codes: TensorSource, scales: TensorSource, parts: Sequence[str]) -> Weight:
    """Weight `name` of codes (..., n / 2), bytes with the first value in the low half; scales (..., n / 32).

    scales: bytes, exponents of two plus 127, or what these stand for. Raises FormatError for others.
    """
    _check_fit(codes, scales, _MX)
    exponents = _codes(scales, "E8M0")

    def read(start: int, stop: int) -> Bytes:
        values = _nibbles(codes.read(start, stop)).reshape(stop - start, -1, 2, 16)
        halves = values[:, :, 0] | values[:, :, 1] << np.uint8(4)
        blocks = np.concatenate([exponents.read(start, stop)[..., None], halves], axis=-1)
        return blocks.reshape(stop - start, -1)

    shape = (*codes.shape[:-1], codes.columns * 2)
    return Weight(TensorSource(name, shape, GGMLType.MXFP4, read), parts, How.EXACTLY)


def nvfp4(
    name: str,
    codes: TensorSource,
    scales: TensorSource,
    parts: Sequence[str],
    factor: np.float32 | None = None,
) -> Weight:
    """Weight `name` of codes (..., n / 2) as in `mxfp4`, scales (..., n / 16) of E4M3, and a factor.

    scales: bytes, or what these stand for. Raises FormatError for others.
    """
    _check_fit(codes, scales, _NV)
    shape = (*codes.shape[:-1], codes.columns * 2)
    steps = _codes(scales, "E4M3")
    table = E4M3 if factor is None else E4M3 * factor

    def read_floats(start: int, stop: int) -> Floats:
        per_weight = table[steps.read(start, stop)].repeat(_NV, axis=1)
        return E2M1[_nibbles(codes.read(start, stop))] * per_weight

    floats = as_floats(name, shape, parts, read_floats)
    if shape[-1] % GGMLType.NVFP4.block_size:
        return floats

    def read(start: int, stop: int) -> Bytes:
        return _nv_blocks(_nibbles(codes.read(start, stop)), steps.read(start, stop))

    source = TensorSource(name, shape, GGMLType.NVFP4, read)
    if factor is None:
        return Weight(source, parts, How.EXACTLY)
    beside = sources.constant(name.removesuffix(".weight") + ".scale", np.array([factor], np.float32))
    return Weight(source, parts, How.EXACTLY, floats=floats.source, scale=beside)


def factor(packed: Packed, name: str) -> np.float32:
    """The one number that a tensor holds; raises FormatError for others, and for what is no factor."""
    tensor = packed.shaped(name, FLOATS, (1,), (1, 1), of=name.rpartition(".")[0])
    value = floats_of(tensor).reshape(())[()]
    if not np.isfinite(value) or value == 0:
        raise FormatError(f"tensor {quoted(name)} is {value}, which is no scale; download it again")
    return np.float32(value)


def _check_fit(codes: TensorSource, scales: TensorSource, size: int) -> None:
    if (*scales.shape[:-1], scales.columns * size // 2) != codes.shape:
        problem = f"has shape {codes.shape}, {quoted(scales.name)} has {scales.shape}"
        raise FormatError(f"tensor {quoted(codes.name)} {problem}; they do not belong together")


def _nibbles(data: Bytes) -> Bytes:
    """Two values in a byte, the first in the low half: (rows, n) -> (rows, 2 n)."""
    return np.stack([data & np.uint8(15), data >> np.uint8(4)], axis=-1).reshape(len(data), -1)


def _nv_blocks(codes: Bytes, scales: Bytes) -> Bytes:
    """Codes (rows, n) and scales (rows, n / 16), of E4M3, as rows of blocks.

    GGUF's scales have no sign, the codes take it; in a sub-block values i and i + 8 share a byte.
    """
    n = codes.shape[1] // 64
    signs = (scales >> np.uint8(7) << np.uint8(3)).reshape(-1, n, 4, 1)
    values = codes.reshape(-1, n, 4, 16) ^ signs
    packed = (values[..., :8] | values[..., 8:] << np.uint8(4)).reshape(-1, n, 32)
    positive = (scales & np.uint8(0x7F)).reshape(-1, n, 4)
    return np.concatenate([positive, packed], axis=-1).reshape(len(codes), -1)


def _codes(scales: TensorSource, kind: str) -> TensorSource:
    """Scales as bytes of a kind of floats: they are such already, or numbers that these stand for."""

    def read(start: int, stop: int) -> Bytes:
        data = scales.read(start, stop)
        codes = _INVERSES[kind][data.view("<u2")] if scales.type is GGMLType.BF16 else data
        if np.isnan(_KINDS[kind][codes]).any():
            raise FormatError(
                f"tensor {quoted(scales.name)} has numbers that are no {kind}; download it again"
            )
        return codes

    return TensorSource(scales.name, scales.shape, GGMLType.I8, read)


def _inverse(table: Floats) -> Bytes:
    """For each number of bf16 its code; that of NaN where there is none."""
    inverse = np.full(1 << 16, 0xFF, np.uint8)
    inverse[(table.view(np.uint32) >> 16)[:255]] = np.arange(255)
    return inverse


_KINDS = {"E8M0": E8M0, "E4M3": E4M3}
_INVERSES = {kind: _inverse(table) for kind, table in _KINDS.items()}
