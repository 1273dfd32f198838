"""What NVIDIA's Model Optimizer writes: FP8 with scales of a matrix, of rows or of blocks, NVFP4 and MXFP4.

Source: modelopt torch/export/quant_utils.py, unified_export_hf.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ggufpy.checkpoint.quantized import fp4, fp8
from ggufpy.checkpoint.quantized.method import Packed, Weight
from ggufpy.gguf.types import GGMLType

_KNOWN = (
    *("quant_method", "quant_algo", "producer", "config_groups", "group_size", "quantized_layers"),
    *("ignore", "exclude_modules", "kv_cache_scheme", "kv_cache_quant_algo", "has_zero_point"),
    *("pre_quant_scale", "quantization_status", "format", "version"),
)
_ALGORITHMS = (
    *("FP8", "FP8_PB_WO", "FP8_PB_REAL", "FP8_PER_CHANNEL_PER_TOKEN", "MXFP8"),
    *("NVFP4", "W4A16_NVFP4", "W4A8_NVFP4_FP8", "W4A8_MXFP4_FP8", "NVFP4_AWQ", "MIXED_PRECISION"),
)
_BLOCK = (128, 128)  # where there are such, and they do not divide a matrix


def weights(packed: Packed) -> list[Weight]:
    """All that have scales; of which kind, their types say."""
    packed = replace(packed, settings=_settings(packed.settings))
    packed.check_keys(_KNOWN)
    packed.choice("quant_algo", "FP8", *_ALGORITHMS)
    names = [name for name in packed.stems("_scale") if name in packed.tensors]
    return [_weight(packed, name) for name in names]


def _settings(settings: Mapping[str, object]) -> Mapping[str, object]:
    """Of hf_quant_config.json those that config.json has."""
    inner = settings.get("quantization")
    return inner if isinstance(inner, dict) else settings


def _weight(packed: Packed, name: str) -> Weight:
    scale, factor = name + "_scale", name + "_scale_2"
    parts = [name, scale, *fp8.beside(packed, name)]
    codes, found = packed.tensors[name], packed.tensors[scale]
    if codes.type is not GGMLType.I8:
        grid = found.shape[::2] if len(found.shape) == 4 else found.shape
        block = fp8.fitting(_BLOCK, codes.shape, grid)
        return fp8.weight(packed, name, scale, block, parts)
    codes, scales = packed.part(name, [GGMLType.I8]), packed.part(scale, [GGMLType.BF16, GGMLType.I8])
    if scales.type is GGMLType.I8:
        return fp4.mxfp4(name, codes, scales, parts)
    return fp4.nvfp4(name, codes, scales, [*parts, factor], fp4.factor(packed, factor))
