"""BitNet's matrices of -1, 0 and 1: packed in bytes, and as the floats that they are made of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conversion import logits
from numpy.typing import NDArray
from tiny import Floats
from tiny_checkpoints import TOKENS, models

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import UnsupportedModelError

MODEL = next(model for model in models() if model.name == "bitnet")
MASTER = MODEL.weights()
MATRICES = [name for name in MASTER if name.endswith("_proj.weight")]


def numbers(x: Floats) -> tuple[Floats, np.float32]:
    """-1, 0 and 1, and the factor. Source: transformers integrations/bitnet.py, WeightQuant."""
    factor = np.abs(x, dtype=np.float64).mean().astype(np.float32)
    return np.rint(x / factor).clip(-1, 1), factor


def ternary() -> dict[str, Floats]:
    parts = {name: numbers(MASTER[name]) for name in MATRICES}
    return {**MASTER, **{name: values * factor for name, (values, factor) in parts.items()}}


def packed(inverse: bool) -> dict[str, NDArray[Any]]:
    """Row k n + i in bits 2 k of row i, as pack_weights has it."""
    weights: dict[str, NDArray[Any]] = dict(MASTER)
    for name in MATRICES:
        values, factor = numbers(MASTER[name])
        parts = (values + 1).astype(np.uint8).reshape(4, -1, values.shape[1])
        weights[name] = parts[0] | parts[1] << 2 | parts[2] << 4 | parts[3] << 6
        weights[f"{name}_scale"] = np.array([1 / factor if inverse else factor], np.float32)
    return weights


def of(folder: Path, tokenizer: Path, weights: dict[str, NDArray[Any]], **quantization: str) -> Floats:
    """Logits of a checkpoint that was converted."""
    how = {"quantization_config": {"quant_method": "bitnet", **quantization}} if quantization else {}
    tiny.write(folder, tokenizer, MODEL.config | how)
    tiny.save(folder, weights)
    return logits(convert_checkpoint(folder, outtype="f32")[0], TOKENS)


def test_all_ways_to_say_it(tmp_path: Path, shipped_checkpoint: Path) -> None:
    want = of(tmp_path / "plain", shipped_checkpoint, ternary())
    online = {"linear_class": "autobitlinear", "quantization_mode": "online"}
    np.testing.assert_array_equal(of(tmp_path / "online", shipped_checkpoint, dict(MASTER), **online), want)
    auto = {"linear_class": "autobitlinear"}
    np.testing.assert_array_equal(of(tmp_path / "packed", shipped_checkpoint, packed(False), **auto), want)
    divided = of(tmp_path / "divided", shipped_checkpoint, packed(True), linear_class="bitlinear")
    np.testing.assert_allclose(divided, want, atol=1e-4)


def test_others_refuse_it(tmp_path: Path, shipped_checkpoint: Path) -> None:
    config = {**tiny.CONFIG, "quantization_config": {"quant_method": "bitnet"}}
    tiny.write(tmp_path, shipped_checkpoint, config)
    tiny.save(tmp_path, tiny.weights(tiny.CONFIG))
    with pytest.raises(
        UnsupportedModelError, match="quantization_config 'bitnet' is not supported for Llama"
    ):
        convert_checkpoint(tmp_path)
