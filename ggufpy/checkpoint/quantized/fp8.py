"""FP8: weights of E4M3 or E5M2, times scales of the whole matrix, of rows or of blocks; experts may be MXFP4.

Source: transformers integrations/finegrained_fp8.py, quantizers/quantizer_fbgemm_fp8.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized import fp4
from ggufpy.checkpoint.quantized.method import FLOATS, Packed, Weight, as_floats, floats_of
from ggufpy.checkpoint.quantized.scales import Scales
from ggufpy.checkpoint.small_floats import E8M0, as_bf16
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

_OF_ACTIVATIONS = (
    *("input_scale", "input_zero_point", "input_global_scale", "input_scale_ub", "activation_scale"),
    *("output_scale", "output_zero_point"),
)

_KNOWN = (
    *("quant_method", "weight_block_size", "scale_fmt", "fmt", "expert_dtype", "dequantize"),
    *("modules_to_not_convert", "modules_to_convert", "ignored_layers"),
    *("activation_scheme", "activation_scale_ub", "kv_cache_scheme"),
)
_BLOCK = [128, 128]  # where settings do not say it


def weights(packed: Packed) -> list[Weight]:
    """All that have scales beside them, `_scale_inv` or `_scale`; either is multiplied."""
    packed.check_keys(_KNOWN)
    packed.choice("expert_dtype", "fp8", "fp8", "fp4")
    block = block_size(packed, packed.settings.get("weight_block_size", _BLOCK))
    made = []
    for ending in ("_scale_inv", "_scale"):
        for name in (stem for stem in packed.stems(ending) if stem in packed.tensors):
            parts = [name, name + ending, *beside(packed, name)]
            if packed.tensors[name].type is GGMLType.I8:
                scales = packed.part(name + ending, [GGMLType.BF16, GGMLType.I8])
                made.append(fp4.mxfp4(name, packed.part(name, [GGMLType.I8]), scales, parts))
            else:
                of_weight = fitting(block, packed.tensors[name].shape, packed.tensors[name + ending].shape)
                made.append(weight(packed, name, name + ending, of_weight, parts))
    return made


def fitting(
    block: tuple[int, int] | None, shape: tuple[int, ...], grid: tuple[int, ...]
) -> tuple[int, int] | None:
    """The block that settings say; None where shapes show another, which transformers takes, too."""
    sizes = zip(shape[-2:], block or (), strict=False)
    return block if tuple(-(-n // size) for n, size in sizes) == grid[-2:] else None


def weight(
    packed: Packed, name: str, scale: str, block: Sequence[int] | None, parts: Sequence[str]
) -> Weight:
    """Tensor `name` times those of `scale`; raises FormatError where they do not fit.

    scale: numbers, or bytes that are exponents of two plus 127.
    """
    codes, steps = packed.part(name, [GGMLType.BF16]), packed.part(scale, [*FLOATS, GGMLType.I8])
    if steps.type is GGMLType.I8:
        steps = as_bf16(steps, E8M0)
    scales = Scales.of(steps, codes.shape, block)
    group_of = scales.group_of

    def read(start: int, stop: int) -> NDArray[np.float32]:
        values = float8s(codes, start, stop)
        values *= scales.read(start, stop)[:, group_of]
        return values

    return as_floats(name, codes.shape, parts, read)


def beside(packed: Packed, name: str) -> list[str]:
    """Scales of activations beside a weight, of a module or of experts: they change nothing in it."""
    starts = f"{name.rpartition('.')[0]}.", f"{name}_"
    names = (start + each for start in starts for each in _OF_ACTIVATIONS)
    return [part for part in names if part in packed.tensors]


def float8s(source: TensorSource, start: int, stop: int) -> NDArray[np.float32]:
    """Rows of 8-bit floats; raises FormatError for others, which do not have such short mantissas."""
    values = floats_of(source, start, stop)
    if (values.view(np.uint32) & 0x000FFFFF).any():
        problem = "is not of FP8, though it has scales"
        raise FormatError(f"tensor {quoted(source.name)} {problem}; remove these if it was dequantized")
    return values


def block_size(packed: Packed, value: object) -> tuple[int, int] | None:
    """Rows and columns of a block, as settings say them; raises UnsupportedModelError for what is none."""
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int and n > 0 for n in value):
        return value[0], value[1]
    raise UnsupportedModelError(
        f"{packed.where}: a block of weights is {value!r:.40} in its quantization, it must be two numbers"
    )
