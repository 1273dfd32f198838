"""Floats of 4 bits: repacked bit for bit, with the factor of a matrix beside it; packed here one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import conversion
import gguf
import numpy as np
import packed_llama
import pytest
import tiny
from oracle import Oracle, needs_oracle
from packed_llama import Array, Floats
from random_llama import nmse
from small_floats import NIBBLES, e4m3, retyped
from test_libraries import opened
from tiny_checkpoints import models

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode

TOKENS = np.random.default_rng(7).integers(3, 4096, 24).tolist()
PACKED = ("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight", "_linear.weight")
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4"}


def in_bytes(codes: Array) -> Array:
    """Two of a row in a byte, the first in its low half."""
    packed: Array = (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
    return packed


def modelopt(stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
    """A factor that multiplies; some scales are negative."""
    rng = np.random.default_rng(len(stem))
    codes = rng.integers(0, 16, x.shape)
    scales = rng.integers(0x28, 0x50, (len(x), x.shape[1] // 16)) | rng.integers(0, 2, (len(x), 1)) << 7
    factor = np.float32(rng.uniform(0.01, 0.02))
    steps = np.array([[e4m3(int(code)) for code in row] for row in scales], np.float32)
    parts: dict[str, Array] = {
        f"{stem}.weight": in_bytes(codes),
        f"{stem}.weight_scale": scales.astype(np.uint8),
    }
    parts |= {f"{stem}.weight_scale_2": np.array(factor), f"{stem}.input_scale": np.array(2, np.float32)}
    return parts, NIBBLES[codes] * (steps * factor).repeat(16, axis=1)


def write(folder: Path, tokenizer: Path) -> dict[str, Floats]:
    held = packed_llama.write(folder, tokenizer, NVFP4, modelopt)
    retyped(folder, {"weight_scale": "F8_E4M3"})
    return held


def with_factors(path: Path) -> dict[str, tuple[str, Floats]]:
    """The numbers that blocks and factors stand for."""
    with GGUFFile.open(path) as file:
        found = {}
        for name, tensor in file.tensors.items():
            stem, part = name.rsplit(".", 1)
            if part != "scale":
                type = gguf.GGMLQuantizationType(tensor.type)
                scale = file.tensors.get(f"{stem}.scale")
                factor = 1 if scale is None else np.array(scale.data).view(np.float32).item()
                values = gguf.dequantize(np.array(tensor.data), type) * np.float32(factor)
                found[name] = tensor.type.label, values.reshape(tensor.shape)
    return found


def test_nvfp4(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """Rows of 96 do not divide into blocks of 64: they are decoded, as all are where floats are asked for."""
    held = packed_llama.expected(write(tmp_path, shipped_checkpoint))
    for outtype, kept in (("auto", 12), ("f32", 0)):
        (path,) = convert_checkpoint(tmp_path, tmp_path / f"{outtype}.gguf", outtype=outtype)
        found = with_factors(path)
        assert found.keys() == held.keys()
        assert [type for type, _ in found.values()].count("nvfp4") == kept
        for name, (type, x) in found.items():
            tolerance = 1e-3 if type == "f16" else 3e-7
            np.testing.assert_allclose(x, held[name], rtol=tolerance, atol=1e-6, err_msg=name)
    packed, decoded = packed_llama.outcome(tmp_path)
    assert packed == "modelopt: 12 weights repacked exactly (12 nvfp4)"
    assert decoded.startswith("modelopt: 2 weights dequantized (2 f16), relative error ")


def test_nvfp4_as_the_type_of_all(
    tmp_path: Path, shipped_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packed_llama.CONFIG, "intermediate_size", 128)
    held = packed_llama.expected(write(tmp_path, shipped_checkpoint))
    (path,) = convert_checkpoint(tmp_path, outtype="nvfp4")
    found = with_factors(path)
    assert found.keys() == held.keys()
    for name, (type, x) in found.items():
        if name.startswith("blk") and "norm" not in name:
            assert type == "nvfp4"
            np.testing.assert_allclose(x, held[name], rtol=3e-7, err_msg=name)


def test_networks_with_factors(tmp_path: Path, shipped_checkpoint: Path) -> None:
    write(tmp_path, shipped_checkpoint)
    (floats,) = convert_checkpoint(tmp_path, tmp_path / "f32.gguf", outtype="f32")
    (packed,) = convert_checkpoint(tmp_path, tmp_path / "packed.gguf")
    assert nmse(conversion.logits(packed, TOKENS), conversion.logits(floats, TOKENS)) < 1e-4


@needs_oracle
def test_llama_cpp_multiplies_by_them(tmp_path: Path, shipped_checkpoint: Path) -> None:
    write(tmp_path, shipped_checkpoint)
    (floats,) = convert_checkpoint(tmp_path, tmp_path / "f32.gguf", outtype="f32")
    (packed,) = convert_checkpoint(tmp_path, tmp_path / "packed.gguf")
    with Oracle(packed) as ours, Oracle(floats) as other:
        assert nmse(ours.logits(TOKENS), other.logits(TOKENS)) < 1e-2


def test_blocks_of_gpt_oss(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    blocks, scales = (
        rng.integers(0, 256, (3, 7, 2, 16), np.uint8),
        rng.integers(100, 130, (3, 7, 2), np.uint8),
    )
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    saved(tmp_path, {"x_blocks": blocks, "x_scales": scales}, settings)
    made = opened(tmp_path).weights["x.weight"].source
    assert (made.shape, made.type, made.row_bytes) == ((3, 7, 64), GGMLType.MXFP4, 34)
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(21, 2, 32)
    want = np.ldexp(NIBBLES[codes], scales.reshape(21, 2, 1).astype(np.int32) - 127)
    whole = made.read(0, 21)
    assert np.array_equal(decode(whole, made.type), want.reshape(21, 64))
    for step in (1, 5, 7, 11):
        parts = [made.read(start, min(start + step, 21)) for start in range(0, 21, step)]
        assert np.array_equal(np.concatenate(parts), whole)
    saved(tmp_path, {"x_blocks": blocks, "x_scales": scales[..., :1]}, settings)
    with pytest.raises(
        FormatError, match=r"'x_scales' has shape \(3, 7, 1\), 'x_blocks' asks for \(3, 7, 2\)"
    ):
        opened(tmp_path)
    scales[2, 1, 1] = 255
    saved(tmp_path, {"x_blocks": blocks, "x_scales": scales}, settings)
    with pytest.raises(FormatError, match="'x_scales' has numbers that are no E8M0"):
        opened(tmp_path).weights["x.weight"].source.read(0, 21)


def test_tied_embeddings_with_a_factor(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """Rows of an embedding are taken as they are, so they are decoded."""
    config = packed_llama.CONFIG | {"tie_word_embeddings": True, "quantization_config": NVFP4}
    tensors: dict[str, Array] = {}
    for name, x in tiny.weights(config).items():
        is_embedding = name == "model.embed_tokens.weight"
        tensors |= modelopt(name.removesuffix(".weight"), x)[0] if is_embedding else {name: x}
    tiny.write(tmp_path, shipped_checkpoint, config)
    packed_llama.save(tmp_path, tensors)
    retyped(tmp_path, {"weight_scale": "F8_E4M3"})
    (path,) = convert_checkpoint(tmp_path)
    with GGUFFile.open(path) as file:
        assert file.tensors["token_embd.weight"].type.label == "f16"
        assert "token_embd.scale" not in file.tensors


def saved(folder: Path, tensors: Mapping[str, Array], settings: Mapping[str, Any] = NVFP4) -> None:
    packed_llama.save(folder, tensors)
    retyped(folder, {"weight_scale": "F8_E4M3"})
    packed_llama.set_config(folder, quantization_config=settings)


def test_scales_that_are_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts: dict[str, Array] = {
        "x.weight": rng.integers(0, 256, (2, 32), np.uint8),
        "x.weight_scale": np.full((2, 4), 0x38, np.uint8),
        "x.weight_scale_2": np.array(2, np.float32),
    }
    saved(tmp_path, parts)
    assert opened(tmp_path).weights["x.weight"].source.read(0, 2).shape == (2, 36)
    for name, value, message in (
        ("x.weight_scale_2", np.float32(0), "is 0.0, which is no scale"),
        ("x.weight_scale_2", np.float32(np.nan), "is nan, which is no scale"),
        ("x.weight_scale_2", np.ones(2, np.float32), "has shape"),
        ("x.weight_scale", np.full((2, 3), 0x38, np.uint8), "do not belong together"),
    ):
        saved(tmp_path, parts | {name: np.asarray(value)})
        with pytest.raises(FormatError, match=message):
            opened(tmp_path)
    saved(tmp_path, parts | {"x.weight_scale": np.full((2, 4), 0x7F, np.uint8)})
    with pytest.raises(FormatError, match=r"'x.weight_scale' has numbers that are no E4M3"):
        opened(tmp_path).weights["x.weight"].source.read(0, 2)
    saved(tmp_path, {name: x for name, x in parts.items() if name != "x.weight_scale_2"})
    with pytest.raises(FormatError, match=r"'x.weight_scale_2' is missing"):
        opened(tmp_path)


# Experts one by one, named otherwise; matrices taken apart, transposed, multiplied, put together.
@pytest.mark.parametrize(
    "name", ["qwen3moe", "mixtral", "deepseek2", "falcon-h1", "phi4", "llama4", "granitehybrid", "gemma3n"]
)
def test_architectures(tmp_path: Path, shipped_checkpoint: Path, name: str) -> None:
    model = next(model for model in models() if model.name == name)
    tensors: dict[str, Array] = {}
    for key, x in model.weights().items():
        if key.endswith(PACKED) and x.ndim == 2 and x.shape[1] % 64 == 0:
            tensors |= modelopt(key.removesuffix(".weight"), x)[0]
        else:
            tensors[key] = x
    tiny.write(tmp_path, shipped_checkpoint, model.config | {"quantization_config": NVFP4})
    packed_llama.save(tmp_path, tensors)
    retyped(tmp_path, {"weight_scale": "F8_E4M3"})
    (floats,) = convert_checkpoint(tmp_path, tmp_path / "f32.gguf", outtype="f32")
    (packed,) = convert_checkpoint(tmp_path, tmp_path / "packed.gguf")
    with GGUFFile.open(packed) as file:
        assert any(name.endswith(".scale") for name in file.tensors)
    rows = zip(conversion.logits(packed, TOKENS), conversion.logits(floats, TOKENS), strict=True)
    assert np.median([nmse(*pair) for pair in rows]) < 1e-3  # some tokens get other experts by rounding
