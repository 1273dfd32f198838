"""GPT-OSS as it is released: experts in blocks of MXFP4, which stay as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conversion import logits
from numpy.typing import NDArray
from random_llama import nmse
from tiny_checkpoints import TOKENS, models

from ggufpy import estimate_size
from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType

VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
WIDTH = INNER = 64


def packed() -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A configuration and tensors, as released."""
    model = next(model for model in models() if model.name == "gpt-oss")
    config = model.config | {"intermediate_size": INNER, "quantization_config": {"quant_method": "mxfp4"}}
    weights: dict[str, NDArray[Any]] = dict(model.weights())
    rng = np.random.default_rng(0)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}.mlp.experts."
        for part, shape in (
            ("gate_up_proj", (4, 2 * INNER, WIDTH // 32)),
            ("down_proj", (4, WIDTH, INNER // 32)),
        ):
            del weights[name + part]
            weights[f"{name}{part}_blocks"] = rng.integers(0, 256, (*shape, 16), np.uint8)
            weights[f"{name}{part}_scales"] = rng.integers(121, 125, shape, np.uint8)
            weights[f"{name}{part}_bias"] = rng.standard_normal(shape[:2], np.float32)
    return config, weights


def unpacked(weights: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same in floats. Source: transformers integrations/mxfp4.py, _convert_moe_packed_tensors."""
    result = {}
    for name, x in weights.items():
        if name.endswith("_blocks"):
            codes = np.stack([x & 15, x >> 4], axis=-1).reshape(*x.shape[:-1], 32)
            values = np.where(codes & 8, -1, 1) * VALUES[codes & 7]
            scales = weights[name.replace("_blocks", "_scales")].astype(np.int32) - 127
            matrices = np.ldexp(values, scales[..., None]).reshape(*x.shape[:2], -1)
            result[name.removesuffix("_blocks")] = np.ascontiguousarray(matrices.swapaxes(1, 2), np.float32)
        elif not name.endswith("_scales"):
            result[name] = x
    return result


def write(folder: Path, tokenizer: Path, config: dict[str, Any], weights: dict[str, NDArray[Any]]) -> Path:
    tiny.write(folder, tokenizer, config)
    tiny.save(folder, weights)
    return folder


def test_blocks_stay_as_they_are(tmp_path: Path, shipped_checkpoint: Path) -> None:
    config, weights = packed()
    folder = write(tmp_path / "packed", shipped_checkpoint, config, weights)
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    floats = write(tmp_path / "floats", shipped_checkpoint, plain, unpacked(weights))
    (want,) = convert_checkpoint(floats, outtype="f32")
    for outtype, type, file_type in (
        ("f32", GGMLType.F32, 0),
        ("auto", GGMLType.MXFP4, 38),
        ("mxfp4", GGMLType.MXFP4, 38),
    ):
        size = estimate_size(folder, outtype)
        (path,) = convert_checkpoint(folder, outtype=outtype)
        assert path.stat().st_size == size
        with GGUFFile.open(path) as file:
            assert file.metadata["general.file_type"] == file_type
            experts = {name: tensor.type for name, tensor in file.tensors.items() if "_exps.weight" in name}
            assert set(experts.values()) == {type} and len(experts) == 6
        error = 1e-12 if outtype == "f32" else 1e-2
        assert nmse(logits(path, TOKENS), logits(want, TOKENS)) < error


def test_blocks_without_their_scales(tmp_path: Path, shipped_checkpoint: Path) -> None:
    config, weights = packed()
    name = "model.layers.1.mlp.experts.gate_up_proj_scales"
    scales = weights.pop(name)
    folder = write(tmp_path, shipped_checkpoint, config, weights)
    with pytest.raises(FormatError, match=f"tensor '{name}' is missing; download"):
        convert_checkpoint(folder)
    tiny.save(folder, weights | {name: scales[:, 1:]})
    with pytest.raises(
        FormatError, match=r"_scales' has shape \(4, 127, 2\), .*_blocks' asks for \(4, 128, 2\)"
    ):
        convert_checkpoint(folder)
