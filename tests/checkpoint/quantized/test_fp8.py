"""FP8: both kinds of floats; scales of a matrix, of rows, of blocks that need not divide it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
import tiny
from packed_llama import Array, Floats
from small_floats import random_codes, retyped, values
from test_libraries import opened

from ggufpy.errors import FormatError, UnsupportedModelError

SETTINGS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [40, 48]}
SHAPES = {"whole": (), "rows": (-1, 1), "rows_flat": (-1,), "blocks": (40, 48)}


class Packer:
    def __init__(self, kind: str, shape: str, ending: str = "weight_scale_inv") -> None:
        self.kind, self.shape, self.ending = kind, shape, ending

    def __call__(self, stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
        rng = np.random.default_rng(len(stem))
        codes, (rows, columns) = random_codes(rng, *x.shape), x.shape
        if self.shape == "blocks":
            scales = rng.uniform(0.01, 0.02, (-(-rows // 40), -(-columns // 48))).astype(np.float32)
            spread = np.array([[scales[r // 40, c // 48] for c in range(columns)] for r in range(rows)])
        else:
            scales = rng.uniform(0.01, 0.02, () if self.shape == "whole" else (rows, 1)).astype(np.float32)
            spread = np.broadcast_to(scales, x.shape)
            scales = scales.reshape(-1) if self.shape == "rows_flat" else scales
        parts: dict[str, Array] = {f"{stem}.weight": codes, f"{stem}.{self.ending}": scales}
        parts[f"{stem}.input_scale"] = np.array(3, np.float32)
        return parts, values(codes, self.kind) * spread


def write(folder: Path, tokenizer: Path, packer: Packer, **settings: Any) -> dict[str, Floats]:
    held = packed_llama.write(folder, tokenizer, SETTINGS | settings, packer)
    retyped(folder, {".weight": packer.kind})
    return held


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2"])
def test_weights(tmp_path: Path, shipped_checkpoint: Path, kind: str, shape: str) -> None:
    held = packed_llama.expected(write(tmp_path, shipped_checkpoint, Packer(kind, shape)))
    found = packed_llama.converted(tmp_path, "f32")
    assert found.keys() == held.keys()
    for name, (type, x) in found.items():
        assert type == "f32"
        np.testing.assert_array_equal(x, held[name], err_msg=name)


def test_types_are_those_asked_for(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """By default that of the other weights; q8_0 and others by choice."""
    write(tmp_path, shipped_checkpoint, Packer("F8_E4M3", "rows", "weight_scale"), quant_method="fbgemm_fp8")
    again = "dequantized and quantized again, which adds errors"
    for outtype, outcome, type, least, most in (
        ("auto", "dequantized", "f16", 1e-5, 3e-4),
        ("bf16", "dequantized", "bf16", 1e-3, 2e-3),
        ("q8_0", again, "q8_0", 2e-3, 1e-2),
    ):
        (line,) = packed_llama.outcome(tmp_path, outtype)
        start, _, error = line.partition(", relative error ")
        assert start == f"fbgemm_fp8: 14 weights {outcome} (14 {type})" and least < float(error) < most
    assert packed_llama.outcome(tmp_path, "f32") == ["fbgemm_fp8: 14 weights dequantized (14 f32)"]


def test_experts_of_four_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {
        "w.weight": rng.integers(0, 256, (4, 32), np.uint8),
        "w.weight_scale_inv": rng.integers(120, 130, (4, 2), np.uint8),
    }
    packed_llama.save(tmp_path, tensors)
    packed_llama.set_config(tmp_path, quantization_config=SETTINGS | {"expert_dtype": "fp4"})
    retyped(tmp_path, {"_scale_inv": "F8_E8M0"})
    assert opened(tmp_path).weights["w.weight"].source.type.label == "mxfp4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_block_size": [40]}, r"a block of weights is \[40\]"),
        ({"weight_block_size": [40, 0]}, "it must be two numbers"),
        ({"expert_dtype": "int4"}, "expert_dtype is 'int4'"),
        ({"rotation": "hadamard"}, "does not know the quantization's 'rotation'"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    packed_llama.save(tmp_path, {"x.weight": np.zeros((2, 2), np.float32)})
    packed_llama.set_config(tmp_path, quantization_config=SETTINGS | change)
    with pytest.raises(UnsupportedModelError, match=message):
        opened(tmp_path)


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    def saved(rows: int, columns: int, kind: str = "F8_E4M3") -> None:
        scales = np.ones((rows, columns), np.float32)
        packed_llama.save(
            tmp_path, {"x.weight": np.full((100, 96), 0x31, np.uint8), "x.weight_scale_inv": scales}
        )
        retyped(tmp_path, {".weight": kind})
        (tmp_path / "config.json").write_text(json.dumps({"quantization_config": SETTINGS}))

    saved(3, 2)
    assert opened(tmp_path).weights["x.weight"].source.shape == (100, 96)
    saved(4, 3)  # other blocks, which divide the matrix
    assert opened(tmp_path).weights["x.weight"].source.shape == (100, 96)
    saved(3, 3)
    with pytest.raises(FormatError, match=r"'x.weight_scale_inv' has shape \(3, 3\), its weight \(100, 96\)"):
        opened(tmp_path)


def test_scales_beside_what_was_dequantized(tmp_path: Path) -> None:
    tiny.save(
        tmp_path, {"x.weight": np.full((4, 8), 0x3F81, np.uint16), "x.weight_scale": np.ones(4, np.float32)}
    )
    packed_llama.set_config(tmp_path, quantization_config=SETTINGS)
    source = opened(tmp_path).weights["x.weight"].source
    with pytest.raises(FormatError, match=r"'x.weight' is not of FP8, though it has scales; remove these"):
        source.read(0, 4)
