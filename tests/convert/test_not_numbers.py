"""Weights and settings that are no numbers, or none that a model can be made of, never reach a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIG

from ggufpy.convert.pipeline import plan_conversion
from ggufpy.errors import FormatError
from ggufpy.gguf.floats import are_finite
from ggufpy.gguf.types import GGMLType

BITS: dict[str, Any] = {"F64": np.uint64, "F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}


@pytest.mark.parametrize("type", BITS)
@given(data=st.data())
def test_any_bits_are_known_for_what_they_are(type: str, data: st.DataObject) -> None:
    bits = np.array([data.draw(st.integers(0, np.iinfo(BITS[type]).max))], BITS[type])
    value = bits.view(f"f{bits.itemsize}")
    if type == "BF16":
        value = (bits.astype(np.uint32) << 16).view(np.float32)
    assert are_finite(bits.view(np.uint8).reshape(1, -1), GGMLType[type]) == bool(np.isfinite(value).all())


NAN, BEYOND_F32 = float("nan"), 1e300


@pytest.mark.parametrize("outtype", ["auto", "f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [("BF16", NAN), ("F32", -np.inf), ("F16", np.inf), ("F64", BEYOND_F32)],
)
def test_weights_that_are_no_numbers(
    tmp_path: Path, shipped_checkpoint: Path, dtype: str, value: float, outtype: str
) -> None:
    config = CONFIG | {"num_hidden_layers": 1, "vocab_size": 4096, "hidden_size": 32}
    tiny.write(tmp_path, shipped_checkpoint, config)
    weights = {name: tiny.rounded(x, dtype) for name, x in tiny.weights(config).items()}
    bad = "model.layers.0.mlp.up_proj.weight"
    weights[bad][1, 2] = 0xFF80 if dtype == "BF16" else value
    tiny.save(tmp_path, weights)
    with pytest.raises(
        FormatError, match=r"tensor 'blk\.0\.ffn_up\.weight'.*(NaN or Inf|beyond the range of)"
    ):
        for tensor in plan_conversion(tmp_path, outtype=outtype).tensors:
            tensor.read(0, tensor.rows)
