"""How a checkpoint says that it was quantized, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.json_files import read_json
from ggufpy.errors import FormatError

# What tools wrote before config.json had it: the file, and the method.
_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}


def quantization_settings(folder: Path, config: Mapping[str, Any]) -> tuple[Path, str, dict[str, Any]] | None:
    """The file that says it, the method's name and its settings; None for a checkpoint that is not quantized.

    The name is empty where none is said. Raises FormatError for a senseless setting.
    """
    where = folder / "config.json"
    inner = config.get("text_config") or {}
    if not isinstance(inner, dict):
        raise FormatError(f"{where}: text_config is {inner!r:.40}, it must be an object")
    for part in (config, inner):
        of_mlx = _object(where, part, "quantization")
        given = _object(where, part, "quantization_config")
        method = given.get("quant_method")
        if method is not None and not isinstance(method, str):
            raise FormatError(f"{where}: quant_method is {method!r:.40}, it must be a name")
        if given or of_mlx:
            return where, method or ("mlx" if of_mlx else ""), given or of_mlx
    for name, method in _FILES.items():
        if (folder / name).is_file():
            return folder / name, method, read_json(folder / name)
    return None


def without_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the model whose weights are no longer packed."""
    plain = {
        key: value for key, value in config.items() if key not in ("quantization", "quantization_config")
    }
    if isinstance(plain.get("text_config"), dict):
        plain["text_config"] = without_settings(plain["text_config"])
    return plain


def _object(where: Path, config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    if value is not None and not isinstance(value, dict):
        raise FormatError(f"{where}: {key} is {value!r:.40}, it must be an object")
    return value or {}
