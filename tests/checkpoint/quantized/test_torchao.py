"""torchao: integers in bytes whose kind the metadata of the file says, made here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
from packed_llama import Array, Floats
from safetensors.numpy import load_file

from ggufpy.errors import FormatError, UnsupportedModelError

HOW = {"quant_method": "torchao", "quant_type": {"default": {"_type": "IntxWeightOnlyConfig"}}}


def pack(stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
    rng = np.random.default_rng(len(stem) + x.shape[1])
    groups = (x.shape[0], x.shape[1] // 32)
    codes, zeros = rng.integers(-8, 8, x.shape), rng.integers(-8, 8, groups)
    scales: Array = rng.uniform(0, 0.02, groups).astype(np.float16)
    parts: dict[str, Array] = {
        f"{stem}._weight_qdata": codes.astype(np.int8),
        f"{stem}._weight_scale": scales,
        f"{stem}._weight_zero_point": zeros.astype(np.int8),
    }
    weight = (codes - zeros.repeat(32, axis=1)) * scales.astype(np.float32).repeat(32, axis=1)
    return parts, weight.astype(np.float32)


def save(
    folder: Path, tensors: Mapping[str, Array], kind: str = "IntxUnpackedToInt8Tensor", **said: Any
) -> None:
    """The file with its metadata."""
    data = {"block_size": [1, 32], "target_dtype": {"_type": "torch.dtype", "_data": "int4"}, **said}
    text = json.dumps({"_type": kind, "_data": data})
    stems = (name.removesuffix("._weight_qdata") for name in tensors if name.endswith("_qdata"))
    packed_llama.save(folder, tensors, **{f"{stem}.weight": text for stem in stems})


def test_integers_with_zero_points(tmp_path: Path, shipped_checkpoint: Path) -> None:
    held = packed_llama.write(tmp_path, shipped_checkpoint, HOW, pack)
    save(tmp_path, load_file(tmp_path / "model.safetensors"))
    for name, (_, _, whole) in packed_llama.read(tmp_path).items():
        np.testing.assert_array_equal(whole, held[name], name)
    (line,) = packed_llama.outcome(tmp_path)
    assert line.startswith("torchao: 14 weights repacked nearly (14 q4_1), relative error 0.000")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kind": "Int4TilePackedTo4dTensor"}, "is torchao's 'Int4TilePackedTo4dTensor', ggufpy knows Int8T"),
        ({"block_size": [1, 0]}, r"block_size is \[1, 0\], it must be a list of sizes"),
        ({"block_size": [32]}, r"has shape \(64, 96\), its block_size is \[32\]"),
        ({"block_size": [1, 16]}, r"scale' has shape \(64, 3\)"),
        ({"target_dtype": {"_data": "int9"}}, "target_dtype is 'int9', it must be int1 to int8"),
        ({"target_dtype": {"_data": "int3"}}, "weight' has integers of more than 3 bits"),
    ],
)
def test_metadata_that_is_not_known(
    tmp_path: Path, shipped_checkpoint: Path, said: dict[str, Any], message: str
) -> None:
    packed_llama.write(tmp_path, shipped_checkpoint, HOW, pack)
    save(tmp_path, load_file(tmp_path / "model.safetensors"), **said)
    with pytest.raises((UnsupportedModelError, FormatError), match=message):
        packed_llama.read(tmp_path)


def test_a_file_without_metadata(tmp_path: Path, shipped_checkpoint: Path) -> None:
    packed_llama.write(tmp_path, shipped_checkpoint, HOW, pack)
    with pytest.raises(UnsupportedModelError, match=r"_proj\.weight' is torchao's None"):
        packed_llama.read(tmp_path)
