"""bitsandbytes: rows of 8 bits, blocks of 4 bits with and without double quantization, packed here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import packed_llama
import pytest
from packed_llama import Array, Floats
from safetensors.numpy import load_file

from ggufpy.errors import FormatError, UnsupportedModelError

HOW = {"quant_method": "bitsandbytes", "load_in_4bit": True}
BLOCK, OUTER = 64, 8


def in_8_bits(stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
    largest = np.abs(x).max(axis=1)
    codes = np.rint(x / largest[:, None] * 127).astype(np.int8)
    parts: dict[str, Array] = {
        f"{stem}.weight": codes,
        f"{stem}.SCB": largest,
        f"{stem}.weight_format": np.array(0, np.uint8),
    }
    return parts, codes * (largest / np.float32(127))[:, None]


def in_4_bits(stem: str, x: Floats, *, double: bool = False) -> tuple[dict[str, Array], Floats]:
    rng = np.random.default_rng(len(stem) + x.shape[1])
    table = np.sort(rng.uniform(-1, 1, 16)).astype(np.float32)
    codes, blocks = rng.integers(0, 16, x.size), x.size // BLOCK
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": BLOCK, "shape": x.shape, "dtype": "float16"}
    name = f"{stem}.weight"
    parts: dict[str, Array] = {
        name: (codes[0::2] << 4 | codes[1::2]).astype(np.uint8)[:, None],
        f"{name}.quant_map": table,
    }
    if double:
        state |= {"nested_blocksize": OUTER, "nested_offset": 0.25}
        absmax_codes = rng.integers(0, 256, blocks)
        absmax_table = rng.uniform(-1, 1, 256).astype(np.float32)
        factors = rng.uniform(0.1, 0.2, -(-blocks // OUTER)).astype(np.float32)
        absmax = absmax_table[absmax_codes] * factors[np.arange(blocks) // OUTER] + np.float32(0.25)
        parts[f"{name}.absmax"] = absmax_codes.astype(np.uint8)
        parts[f"{name}.nested_absmax"], parts[f"{name}.nested_quant_map"] = factors, absmax_table
    else:
        absmax = rng.uniform(0.1, 0.4, blocks).astype(np.float32)
        parts[f"{name}.absmax"] = absmax
    text = json.dumps(state).encode()
    parts[f"{name}.quant_state.bitsandbytes__nf4"] = np.frombuffer(text, np.uint8)
    return parts, (table[codes] * absmax.repeat(BLOCK)).reshape(x.shape)


def in_4_bits_twice(stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
    return in_4_bits(stem, x, double=True)


@pytest.mark.parametrize("pack", [in_4_bits, in_4_bits_twice])
def test_4_bits_are_decoded(tmp_path: Path, shipped_checkpoint: Path, pack: packed_llama.Pack) -> None:
    held = packed_llama.write(tmp_path, shipped_checkpoint, HOW, pack)
    for name, (_, _, whole) in packed_llama.read(tmp_path).items():
        np.testing.assert_array_equal(whole, held[name], name)
    (line,) = packed_llama.outcome(tmp_path)
    assert line.startswith("bitsandbytes: 14 weights dequantized (14 f16), relative error ")


def test_8_bits_are_nearly_q8_0(tmp_path: Path, shipped_checkpoint: Path) -> None:
    held = packed_llama.write(tmp_path, shipped_checkpoint, {**HOW, "load_in_8bit": True}, in_8_bits)
    for name, (type, kept, whole) in packed_llama.read(tmp_path).items():
        assert type == "q8_0"
        np.testing.assert_allclose(whole, held[name], rtol=2e-7, err_msg=name)
        np.testing.assert_allclose(kept, whole, rtol=6e-4, err_msg=name)
    (line,) = packed_llama.outcome(tmp_path)
    assert line.startswith("bitsandbytes: 14 weights repacked nearly (14 q8_0), relative error 0.0002")


def state(**changes: Any) -> Callable[[Array], Array]:
    """The JSON object with something else in it."""

    def changed(x: Array) -> Array:
        return np.frombuffer(json.dumps(json.loads(x.tobytes()) | changes).encode(), np.uint8)

    return changed


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("quant_state.bitsandbytes__nf4", state(shape=[64, 65]), r"has 2048 bytes, .* shape \(64, 65\)"),
        ("quant_state.bitsandbytes__nf4", state(shape=[64]), r"shape is \[64\], it must be a list of sizes"),
        ("quant_state.bitsandbytes__nf4", state(shape=[1 << 40, 1 << 40]), "has 2048 bytes"),
        ("quant_state.bitsandbytes__nf4", state(blocksize=0), "blocksize is 0, it must be a positive number"),
        ("quant_state.bitsandbytes__nf4", state(blocksize=32), r"absmax' has shape \(64,\)"),
        ("quant_state.bitsandbytes__nf4", state(nested_blocksize="8"), "nested_blocksize is '8'"),
        ("quant_state.bitsandbytes__nf4", state(nested_offset="x"), "nested_offset is 'x'"),
        ("quant_state.bitsandbytes__nf4", lambda x: x[1:], "is not valid JSON"),
        ("absmax", lambda x: x[1:], r"absmax' has shape \(63,\), .*weight' asks for \(64,\)"),
        ("quant_map", lambda x: x[1:], r"quant_map' has shape \(15,\)"),
        ("nested_quant_map", lambda x: x[1:], r"nested_quant_map' has shape \(255,\)"),
        ("nested_absmax", lambda x: x[1:], r"nested_absmax' has shape \(7,\)"),
        ("nested_absmax", None, "nested_absmax' is missing"),
    ],
)
def test_parts_that_do_not_fit(
    tmp_path: Path,
    shipped_checkpoint: Path,
    part: str,
    change: Callable[[Array], Array] | None,
    message: str,
) -> None:
    packed_llama.write(tmp_path, shipped_checkpoint, HOW, in_4_bits_twice)
    tensors = load_file(tmp_path / "model.safetensors")
    name = f"model.layers.0.self_attn.q_proj.weight.{part}"
    found = tensors.pop(name)
    packed_llama.save(tmp_path, tensors | ({name: change(found)} if change else {}))
    with pytest.raises(FormatError, match=message):
        packed_llama.read(tmp_path)


def test_scales_that_do_not_fit(tmp_path: Path, shipped_checkpoint: Path) -> None:
    packed_llama.write(tmp_path, shipped_checkpoint, HOW, in_8_bits)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.SCB"
    packed_llama.save(tmp_path, tensors | {name: tensors[name][1:]})
    with pytest.raises(FormatError, match=r"SCB' has shape \(63,\), .*weight' asks for \(64,\)"):
        packed_llama.read(tmp_path)
    packed_llama.set_config(tmp_path, quantization_config={**HOW, "new_thing": 1})
    with pytest.raises(UnsupportedModelError, match="'new_thing'"):
        packed_llama.read(tmp_path)
