"""What architectures do to weights on the way leaves packed ones right: blocks, or floats where need be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import packed_llama
import pytest
import tiny
from packed_llama import Array, Floats
from test_gptq import Packer, settings
from tiny_checkpoints import FOLDER, Model

HOW = settings(4)


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("mixtral", {"q4_0": 14, "f16": 2, "f32": 7}),  # experts are stacked
        ("phi4", {"q4_0": 8, "f16": 2, "f32": 7}),  # several matrices in one
        ("deepseek2", {"q4_0": 18, "f16": 17, "f32": 17}),  # parts of matrices are transposed
        ("gpt2", {"f16": 9, "f32": 19}),  # all matrices are transposed
    ],
)
def test_architectures(tmp_path: Path, shipped_checkpoint: Path, name: str, types: dict[str, int]) -> None:
    model = Model(FOLDER / f"{name}.json", "")
    stored: dict[str, Array] = {}
    held: dict[str, Floats] = {}
    for key, x in model.weights().items():
        stem, held[key] = key.removesuffix(".weight"), x
        kept = any(part in key for part in ("embed", "wte", "lm_head", "block_sparse_moe.gate.", "mlp.gate."))
        if x.ndim != 2 or x.shape[1] % 32 or x.shape[0] % 8 or kept:
            stored[key] = x
        else:
            parts, held[key] = Packer(HOW)(stem, x)
            stored |= parts
    for folder, tensors, how in (("packed", stored, {"quantization_config": HOW}), ("plain", held, {})):
        tiny.write(tmp_path / folder, shipped_checkpoint, {**model.config, **how})
        packed_llama.save(tmp_path / folder, tensors)
    want = packed_llama.converted(tmp_path / "plain", "f32")
    found = packed_llama.converted(tmp_path / "packed")
    assert found.keys() == want.keys()
    for key, (type, x) in found.items():
        np.testing.assert_allclose(
            x, want[key][1], rtol=0 if type == "q4_0" else 1e-3, atol=1e-6, err_msg=key
        )
    assert Counter(type for type, _ in found.values()) == types
