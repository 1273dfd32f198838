"""HQQ: groups along either axis, packed here from the formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import packed_llama
import pytest
from packed_llama import Array, Floats
from safetensors.numpy import load_file

from ggufpy.errors import FormatError, UnsupportedModelError

HOW = {"quant_method": "hqq", "quant_config": {}, "skip_modules": ["lm_head"]}
PACKINGS = {8: ("8bit_u8", 1), 4: ("4bit_u8", 2), 3: ("3bit_32", 10), 2: ("2bit_u8", 4), 1: ("1bit_u8", 8)}


def text(said: str) -> Array:
    return np.frombuffer(said.encode(), np.uint8)


def packer(bits: int, size: int, axis: int) -> packed_llama.Pack:
    packing, in_item = PACKINGS[bits]

    def pack(stem: str, x: Floats) -> tuple[dict[str, Array], Floats]:
        rng = np.random.default_rng(len(stem) + x.shape[1])
        shape = (x.size // size, size) if axis else (size, x.size // size)
        codes = rng.integers(0, 1 << bits, shape)
        of_groups = (shape[0], 1) if axis else (1, shape[1])
        scale: Array = rng.uniform(0.001, 0.02, of_groups).astype(np.float16)
        zero: Array = rng.uniform(0, 1 << bits, of_groups).astype(np.float16)
        step = -(-shape[0] // in_item)
        packed = np.zeros((step, shape[1]), np.int32 if bits == 3 else np.uint8)
        for row in range(shape[0]):
            packed[row % step] |= (codes[row] << bits * (in_item - 1 - row // step)).astype(packed.dtype)
        numbers = {"nbits": bits, "group_size": size, "axis": axis}
        parts: dict[str, Array] = {
            "W_q": packed,
            "scale": scale,
            "zero": zero,
            "shape": np.array(x.shape),
            "packing": text(packing),
            "compute_dtype": text("torch.float16"),
            "channel_wise": np.array(1, np.uint8),
            "round_zero": np.array(1, np.uint8),
            **{key: np.array(number, np.int32) for key, number in numbers.items()},
        }
        weight = (codes - zero.astype(np.float32)) * scale.astype(np.float32)
        return {f"{stem}.{key}": part for key, part in parts.items()}, weight.reshape(x.shape).astype(
            np.float32
        )

    return pack


@pytest.mark.parametrize(
    ("bits", "size", "axis", "type"),
    [
        (4, 32, 1, "q4_1"),
        (3, 32, 1, "q4_1"),
        (2, 32, 1, "q4_1"),
        (1, 32, 1, "q4_1"),
        (8, 32, 1, "f32"),
        (4, 16, 1, "f32"),
        (4, 256, 1, "f32"),
        (4, 64, 0, "f32"),
        (3, 64, 0, "f32"),
    ],
)
def test_every_kind(
    tmp_path: Path, shipped_checkpoint: Path, bits: int, size: int, axis: int, type: str
) -> None:
    held = packed_llama.write(tmp_path, shipped_checkpoint, HOW, packer(bits, size, axis))
    for name, (found, kept, whole) in packed_llama.read(tmp_path).items():
        assert found == type
        np.testing.assert_array_equal(whole, held[name], name)
        assert np.linalg.norm(kept - whole) < 5e-4 * np.linalg.norm(whole), name


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("W_q", lambda x: x[:-1], r"has 2016 bytes for shape \(64, 64\) in groups of 32"),
        ("shape", lambda x: x * 2, r"has 2048 bytes for shape \(128, 128\)"),
        ("shape", lambda x: x * 0, r"has 2048 bytes for shape \(0, 0\)"),
        ("shape", lambda x: x[:1], r"shape' has shape \(1,\)"),
        ("group_size", lambda x: x * 0, "in groups of 0"),
        ("group_size", lambda x: x - 1, "in groups of 31"),
        ("scale", lambda x: x[:-1], r"shapes \(127, 1\) and \(128, 1\)"),
        ("zero", lambda x: x.T, r"shapes \(128, 1\) and \(1, 128\)"),
        ("zero", None, "zero' is missing"),
        ("axis", lambda x: x + 1, "does not know 4 bits, packing 4bit_u8, axis 2"),
        ("packing", lambda x: x[1:], "does not know 4 bits, packing bit_u8"),
        ("nbits", lambda x: np.array(np.nan, np.float32), "nbits' is nan, it must be a number"),
        ("channel_wise", lambda x: x * 0, "one group for all"),
    ],
)
def test_parts_that_do_not_fit(
    tmp_path: Path,
    shipped_checkpoint: Path,
    part: str,
    change: Callable[[Array], Array] | None,
    message: str,
) -> None:
    packed_llama.write(tmp_path, shipped_checkpoint, HOW, packer(4, 32, 1))
    tensors = load_file(tmp_path / "model.safetensors")
    name = f"model.layers.0.self_attn.q_proj.{part}"
    found = tensors.pop(name)
    packed_llama.save(tmp_path, tensors | ({name: change(found)} if change else {}))
    with pytest.raises((FormatError, UnsupportedModelError), match=message):
        packed_llama.read(tmp_path)
