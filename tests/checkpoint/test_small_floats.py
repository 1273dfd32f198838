"""Floats of 8 bits and fewer: tables, and checkpoints that hold such."""

from pathlib import Path

import numpy as np
from tiny import folder_with_config, values, write_safetensors

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.checkpoint.small_floats import E2M1, E2M3, E4M3, E5M2, E8M0
from ggufpy.gguf.types import GGMLType


def test_tables() -> None:
    halves = (np.arange(256, dtype=np.uint16) << 8).view(np.float16)
    np.testing.assert_array_equal(E5M2, halves.astype(np.float32))  # the upper byte of f16
    assert np.flatnonzero(np.isnan(E4M3)).tolist() == [0x7F, 0xFF]
    np.testing.assert_array_equal(
        E4M3[[0, 1, 7, 8, 0x38, 0x3C, 0x7E]], [0, 2**-9, 7 / 512, 2**-6, 1, 1.5, 448]
    )
    np.testing.assert_array_equal(E4M3[128:255], -E4M3[:127])
    np.testing.assert_array_equal(E8M0[[0, 127, 254]], [2.0**-127, 1, 2.0**127])
    assert np.isnan(E8M0[255])
    np.testing.assert_array_equal(E2M1[:8], [0, 0.5, 1, 1.5, 2, 3, 4, 6])
    np.testing.assert_array_equal(E2M1[8:], -E2M1[:8])
    np.testing.assert_array_equal(E2M3[[1, 8, 31, 33]], [0.125, 1, 7.5, -0.125])


def test_a_checkpoint_of_them(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(8, 32)
    tables = {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "F8_E8M0": E8M0}
    header = {
        dtype: {"dtype": dtype, "shape": [8, 32], "data_offsets": [256 * i, 256 * i + 256]}
        for i, dtype in enumerate(tables)
    }
    write_safetensors(folder_with_config(tmp_path) / "model.safetensors", header, 3 * codes.tobytes())
    for name, source in Checkpoint.open(tmp_path).tensors.items():
        assert source.type is GGMLType.BF16 and source.shape == (8, 32)
        np.testing.assert_array_equal(values(source), tables[name][codes])
        assert np.array_equal(source.read(2, 5), source.read(0, 8)[2:5])
