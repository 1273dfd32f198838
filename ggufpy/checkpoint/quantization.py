"""Whether a checkpoint was quantized, and by what: such tensors are no weights before they are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggufpy.errors import FormatError, UnsupportedModelError

# Ways of quantizing that some architectures read; which do, their files say.
_READ = ("bitnet", "mxfp4")

_DEQUANTIZE = "load it with transformers, call dequantize() and save_pretrained(), and convert that"
_ORIGINAL = "convert the checkpoint that it was quantized from"
_REMEDIES = {"bitsandbytes": _DEQUANTIZE, "fp8": _DEQUANTIZE}


def check_not_quantized(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise UnsupportedModelError, naming the method and what helps, FormatError for a senseless setting."""
    inner = config.get("text_config") or {}
    if not isinstance(inner, dict):
        raise FormatError(f"{folder / 'config.json'}: text_config is {inner!r:.40}, it must be an object")
    for part in (config, inner):
        _check(folder, part)
    if (folder / "quantize_config.json").is_file():
        raise UnsupportedModelError(f"{folder}: quantized by GPTQ (quantize_config.json); {_ORIGINAL}")


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    where = folder / "config.json"
    given, of_mlx = config.get("quantization_config"), config.get("quantization")
    for key, value in (("quantization_config", given), ("quantization", of_mlx)):
        if value is not None and not isinstance(value, dict):
            raise FormatError(f"{where}: {key} is {value!r:.40}, it must be an object")
    method = (given or {}).get("quant_method")
    if method is not None and not isinstance(method, str):
        raise FormatError(f"{where}: quant_method is {method!r:.40}, it must be a name")
    if method is None and (of_mlx or given):
        bits = (of_mlx or given or {}).get("bits")
        how = f"to {bits!r:.20} bits" if of_mlx else "(quantization_config names no quant_method)"
        remedy = "fuse or convert it with --de-quantize" if of_mlx else _ORIGINAL
        raise UnsupportedModelError(f"{where}: quantized {'by MLX ' if of_mlx else ''}{how}; {remedy}")
    if method is not None and method not in _READ:
        remedy = _REMEDIES.get(method, _ORIGINAL)
        raise UnsupportedModelError(f"{where}: quantized by {method:.40} (quant_method); {remedy}")
