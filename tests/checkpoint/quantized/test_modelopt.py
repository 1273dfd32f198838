"""Model Optimizer: what tells its kinds of floats apart, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
from packed_llama import Array
from small_floats import random_codes, retyped, values
from test_libraries import opened

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import UnsupportedModelError

RNG = np.random.default_rng(0)
FP8 = random_codes(RNG, 192, 96)


def saved(folder: Path, parts: dict[str, Array], algorithm: str = "MIXED_PRECISION") -> None:
    packed_llama.save(folder, {"x.weight": FP8, **parts})
    retyped(folder, {".weight": "F8_E4M3"})
    settings = {"quant_algo": algorithm, "exclude_modules": ["lm_head"], "kv_cache_quant_algo": "FP8"}
    (folder / "config.json").write_text("{}")
    (folder / "hf_quant_config.json").write_text(json.dumps({"producer": {}, "quantization": settings}))


@pytest.mark.parametrize("shape", [(), (192,), (192, 1), (2, 1, 1, 1), (4, 3)], ids=str)
def test_scales_of_fp8(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Of blocks of 128, of which the last has 64 rows, there are 2 by 1; four by three divide the matrix."""
    scales = RNG.uniform(1, 2, shape).astype(np.float32)
    saved(tmp_path, {"x.weight_scale": scales, "x.input_scale": np.ones((), np.float32)})
    grid = scales.reshape(shape[::2] if len(shape) == 4 else [*shape, 1, 1][:2])
    height, width = {192: (1, 96), 2: (128, 96), 4: (48, 32), 1: (192, 96)}[len(grid)]
    spread = [[grid[row // height, column // width] for column in range(96)] for row in range(192)]
    source = opened(tmp_path).weights["x.weight"].source
    found = np.concatenate([source.read(0, 100), source.read(100, 192)]).view("<f4")
    np.testing.assert_array_equal(found, values(FP8, "F8_E4M3") * np.array(spread, np.float32))


def test_powers_of_two(tmp_path: Path) -> None:
    exponents = RNG.integers(120, 130, (192, 3), np.uint8)
    saved(tmp_path, {"x.weight_scale": exponents}, "MXFP8")
    found = opened(tmp_path).weights["x.weight"].source.read(0, 192).view("<f4")
    steps = np.exp2(exponents.astype(np.float32) - 127).repeat(32, axis=1)
    np.testing.assert_array_equal(found, values(FP8, "F8_E4M3") * steps)


def test_mxfp4(tmp_path: Path) -> None:
    codes = RNG.integers(0, 256, (8, 32), np.uint8)
    scales = RNG.integers(120, 130, (8, 2), np.uint8)
    saved(tmp_path, {"y.weight": codes, "y.weight_scale": scales}, "W4A8_MXFP4_FP8")
    packed_llama.save(tmp_path, {"y.weight": codes, "y.weight_scale": scales})
    assert opened(tmp_path).weights["y.weight"].source.type.label == "mxfp4"


@pytest.mark.parametrize("algorithm", ["W4A16_AWQ", "W8A8_SQ_PER_CHANNEL", "NVFP4_SVD", 8])
def test_other_algorithms(tmp_path: Path, algorithm: Any) -> None:
    saved(tmp_path, {"x.weight_scale": np.ones((), np.float32)}, algorithm)
    with pytest.raises(UnsupportedModelError, match=rf"hf_quant_config.json: quant_algo is {algorithm!r}"):
        opened(tmp_path)


def test_scales_of_inputs_that_are_not_folded(tmp_path: Path, shipped_checkpoint: Path) -> None:
    settings = {"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}
    packed_llama.write(tmp_path, shipped_checkpoint, settings, lambda stem, x: (parts(stem, x), x))
    with pytest.raises(UnsupportedModelError, match=r"'model.*pre_quant_scale' has no place"):
        convert_checkpoint(tmp_path)


def parts(stem: str, x: Array) -> dict[str, Array]:
    return {f"{stem}.weight": x, f"{stem}.pre_quant_scale": np.ones(x.shape[1], np.float32)}
