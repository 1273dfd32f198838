"""Files that the libraries themselves wrote (make_*.py), against what they decode them to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.checkpoint.quantized import PackedWeights
from ggufpy.checkpoint.quantized.method import Weight
from ggufpy.gguf.tensors import TensorSource
from ggufpy.quants import decode

DATA = Path(__file__).parent / "data"

GPTQ = {
    **dict.fromkeys(("int2", "int3", "int4", "int2_asymmetric", "int3_asymmetric"), "q4_0"),
    "int4_asymmetric": "q4_1",
    "int4_ordered": "f32",
    "int8": "q8_0",
    "int8_asymmetric": "f32",
}
# The type of each module, as which f16 and bf16 scales of the library can be kept.
TYPES = {
    "compressed_tensors": {
        "int3": "q4_0",
        "int4": "q4_0",
        "int4_asymmetric": "q4_1",
        "int5_asymmetric": "q8_0",
        "int6": "q8_0",
        "int8": "q8_0",
        "nvfp4": "nvfp4",
        "mxfp4": "mxfp4",
        **dict.fromkeys(("mxfp6", "mxfp8", "fp8_tensor", "fp8_channel", "fp8_block"), "f32"),
    },
    "mlx": {
        "int2": "q4_1",
        "int3": "q4_1",
        "int4": "q4_1",
        "int5": "q5_1",
        "int6": "f32",
        "int8": "f32",
        "mxfp4": "mxfp4",
        "nvfp4": "nvfp4",
        "mxfp8": "f32",
    },
    "fp8": {"blocks": "f32", "powers": "f32", "whole": "f32"},
    "modelopt_fp8": {"down_proj": "f32"},
    "modelopt_nvfp4": {"down_proj": "nvfp4"},
    "bitsandbytes": {
        "int8": "q8_0",
        **dict.fromkeys(("nf4", "nf4_double", "nf4_as_bf16", "fp4", "fp4_double"), "f32"),
    },
    "hqq": {
        **dict.fromkeys(("int1", "ternary", "int2", "int3", "int4", "int4_as_float"), "q4_1"),
        "int5": "q5_1",
        **dict.fromkeys(("int8", "int4_across", "int4_columns", "int3_columns"), "f32"),
    },
    "torchao": {
        **dict.fromkeys(("int8", "int8_groups", "int8_dynamic", "intx6"), "q8_0"),
        "intx2": "q4_0",
        "intx4": "q4_0",
        "intx4_asymmetric": "q4_1",
        "float8": "f32",
    },
    "gptq_v1": GPTQ,
    "gptq_v2": GPTQ,
    **{f"auto_round_{form}": {"k_proj": "q4_0", "down_proj": "q4_0"} for form in ("own", "gptq", "awq")},
    **{
        f"auto_round_{form}_asymmetric": {"k_proj": "q4_1", "down_proj": "q4_1"}
        for form in ("own", "gptq", "awq")
    },
}
# What f16 does to minimums, or scales; those of the others it holds.
NEARLY = {
    name: 1e-3 for name in TYPES if name.startswith(("gptq", "auto_round", "bitsandbytes", "hqq", "torchao"))
}


def opened(folder: Path) -> PackedWeights:
    packed = Checkpoint.open(folder).packed
    assert packed is not None
    return packed


def numbers(weight: Weight, source: TensorSource) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Read in two slabs, to see that rows are found."""
    middle = source.rows // 3
    data = np.concatenate([source.read(0, middle), source.read(middle, source.rows)])
    x: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = decode(data, source.type)
    return x if weight.scale is None or source is weight.floats else x * weight.scale.read(0, 1).view("<f4")


@pytest.mark.parametrize("name", TYPES)
def test_files(name: str) -> None:
    packed = opened(DATA / name)
    with np.load(DATA / name / "decoded.npz") as decoded:
        assert decoded.keys() == TYPES[name].keys()
        for weight in packed.weights.values():
            module = weight.source.name.split(".")[-2]
            assert weight.source.type.label == TYPES[name][module], module
            x = numbers(weight, weight.floats or weight.source)
            np.testing.assert_allclose(x[::5], decoded[module], rtol=2e-7, err_msg=module)
            if weight.error:
                error = np.linalg.norm(numbers(weight, weight.source) - x) / np.linalg.norm(x)
                assert error <= NEARLY.get(name, 0)
                measured = (weight.error.squares / weight.error.total) ** 0.5
                np.testing.assert_allclose(measured, error, rtol=1e-3)
    assert len(packed.weights) == len(TYPES[name])


def test_modelopt_without_settings_in_config_json(tmp_path: Path) -> None:
    shutil.copytree(DATA / "modelopt_nvfp4", tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text("{}")
    assert [weight.source.type.label for weight in opened(tmp_path).weights.values()] == ["nvfp4"]


def test_mlx_leaves_what_is_not_packed() -> None:
    plain = Checkpoint.open(DATA / "mlx").tensors["mlp.plain.weight"]
    assert (plain.type.label, plain.shape) == ("f32", (4, 8))


def test_old_settings_beside_new_files(tmp_path: Path) -> None:
    """The version that config.json names is that of the writer, the shapes say how words are packed."""
    shutil.copytree(DATA / "compressed_tensors", tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["version"] = "0.9.4"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(opened(tmp_path).weights) == len(TYPES["compressed_tensors"])
