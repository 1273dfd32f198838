"""AWQ: words of eight outputs in their odd order, packed here one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
from numpy.typing import NDArray
from packed_llama import Array, Floats
from safetensors.numpy import load_file

from ggufpy.errors import FormatError, UnsupportedModelError

ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # outputs by their place in a word, lowest bits first
HOW = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}


def packed(codes: NDArray[np.int64]) -> NDArray[np.int32]:
    words = np.zeros((len(codes), codes.shape[1] // 8), np.int64)
    for word in range(words.shape[1]):
        for place, output in enumerate(ORDER):
            words[:, word] |= codes[:, 8 * word + output] << 4 * place
    return words.astype(np.uint32).view(np.int32)


def pack(stem: str, x: Floats, *, zero: int | None = None, size: int = 32) -> tuple[dict[str, Array], Floats]:
    outputs, inputs = x.shape
    rng = np.random.default_rng(len(stem) + inputs)
    groups = inputs // size
    codes = rng.integers(0, 16, (inputs, outputs))
    zeros = rng.integers(0, 16, (groups, outputs)) if zero is None else np.full((groups, outputs), zero)
    scales: Array = rng.uniform(0, 0.02, (groups, outputs)).astype(np.float16)
    parts: dict[str, Array] = {
        f"{stem}.qweight": packed(codes),
        f"{stem}.qzeros": packed(zeros),
        f"{stem}.scales": scales,
    }
    group_of = np.arange(inputs) // size
    weight = (codes - zeros[group_of]).T * scales.astype(np.float32)[group_of].T
    return parts, weight.astype(np.float32)


def test_zeros_of_their_own_are_nearly_q4_1(tmp_path: Path, shipped_checkpoint: Path) -> None:
    held = packed_llama.write(tmp_path, shipped_checkpoint, HOW, pack)
    for name, (type, kept, whole) in packed_llama.read(tmp_path).items():
        assert type == "q4_1"
        np.testing.assert_array_equal(whole, held[name], name)
        np.testing.assert_allclose(kept, whole, atol=2e-4, rtol=1e-3, err_msg=name)
    (line,) = packed_llama.outcome(tmp_path)
    assert line.startswith("awq: 14 weights repacked nearly (14 q4_1), relative error 0.000")


def test_one_zero_for_all_is_q4_0(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """In settings of AutoAWQ's own file, too."""
    held = packed_llama.write(tmp_path, shipped_checkpoint, HOW, lambda *of: pack(*of, zero=8))
    packed_llama.set_config(tmp_path)
    own = {"w_bit": 4, "q_group_size": 32, "version": "GEMM", "zero_point": True}
    (tmp_path / "quant_config.json").write_text(json.dumps(own))
    for name, (type, kept, _) in packed_llama.read(tmp_path).items():
        assert type == "q4_0"
        np.testing.assert_array_equal(kept, held[name], name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "gemv"}, "version is 'gemv' in its quantization, ggufpy knows gemm"),
        ({"bits": 8}, "bits is 8"),
        ({"group_size": 64}, "has 96 inputs in 3 groups, group_size is 64"),
    ],
)
def test_other_settings(
    tmp_path: Path, shipped_checkpoint: Path, changes: dict[str, Any], message: str
) -> None:
    packed_llama.write(tmp_path, shipped_checkpoint, {**HOW, **changes}, pack)
    with pytest.raises((UnsupportedModelError, FormatError), match=message):
        packed_llama.read(tmp_path)


def test_parts_that_do_not_fit(tmp_path: Path, shipped_checkpoint: Path) -> None:
    packed_llama.write(tmp_path, shipped_checkpoint, HOW, pack)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.{}".format
    for part in ("qweight", "qzeros", "scales"):
        for changed in (tensors[name(part)][:, 1:], tensors[name(part)][0]):
            packed_llama.save(tmp_path, tensors | {name(part): changed})
            with pytest.raises(FormatError, match="do not fit each other"):
                packed_llama.read(tmp_path)
