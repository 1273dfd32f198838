"""What quantizing refuses, in one clear line, and leaves nothing of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_llama
from quantizing import matrix_for, types

from ggufpy import quantize_file
from ggufpy.errors import FormatError, GgufpyError, ShapeError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.values import Typed, ValueType


def refused(
    tmp_path: Path, small: Path, type: str, error: type[GgufpyError], match: str, **options: Any
) -> None:
    out = tmp_path / "out" / "x.gguf"
    out.parent.mkdir(exist_ok=True)
    out.write_text("old")
    with pytest.raises(error, match=match) as caught:
        quantize_file(small, out, type, **options)
    assert "\n" not in str(caught.value)
    assert out.read_text() == "old" and len(list(out.parent.iterdir())) == 1


def test_refusals(tmp_path: Path, small: Path) -> None:
    def no(type: str, error: type[GgufpyError], match: str, **options: Any) -> None:
        refused(tmp_path, small, type, error, match, **options)

    no("q9", UnsupportedModelError, "type 'q9' is unknown")
    no("q2_k_s", FormatError, "needs the importance of its columns; give an importance matrix")
    no("q4_0", UnsupportedModelError, "cannot write q8_K", output_tensor_type="q8_K")
    no("q4_0", UnsupportedModelError, "tensor type 'q9' is unknown", output_tensor_type="q9")
    no("q4_0", FormatError, r"'\(' is not a regular expression", tensor_type=[("(", "q8_0")])
    no("q4_0", FormatError, "layer 2: the model has layers 0 to 1", prune_layers=[2])
    no("q4_0", FormatError, "cannot leave out all 2 layers", prune_layers=[0, 1, 1])
    both = {"include_weights": ["a"], "exclude_weights": ["b"]}
    no("q4_0", FormatError, "included or excluded, not both", **both)
    no(
        "q4_0",
        FormatError,
        "'general.name': .* is not u32",
        override_kv={"general.name": Typed(-1, ValueType.U32)},
    )


def test_a_matrix_of_another_model(tmp_path: Path, small: Path, f16: Path) -> None:
    other = matrix_for(tmp_path / "other.gguf", f16)
    refused(tmp_path, small, "q4_0", FormatError, "the matrix of another model", imatrix=other)
    refused(tmp_path, small, "q4_0", FormatError, "not an importance matrix", imatrix=small)
    some = {"imatrix": matrix_for(tmp_path / "m.gguf", small), "exclude_weights": ["attn_k"]}
    refused(
        tmp_path,
        small,
        "q2_k_s",
        FormatError,
        r"'blk\.0\.attn_k\.weight': q2_K needs .*m\.gguf has none",
        **some,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.1.ffn_norm.weight"])
@pytest.mark.parametrize("type", ["q4_k_m", "f16", "copy"])
def test_nan_and_inf(tmp_path: Path, value: float, name: str, type: str) -> None:
    arrays = random_llama.arrays()
    arrays[name].reshape(-1)[5] = value
    path = random_llama.write(tmp_path / "bad.gguf", arrays)
    refused(tmp_path, path, type, FormatError, f"tensor '{name}'.* NaN or Inf")


def test_nan_in_blocks(tmp_path: Path, small: Path) -> None:
    (first,) = quantize_file(small, tmp_path / "q8.gguf", "q8_0")
    with GGUFFile.open(first) as file:
        offset = file.tensors["blk.1.ffn_up.weight"].offset
    data = bytearray(first.read_bytes())
    data[offset : offset + 2] = b"\x00\x7e"
    first.write_bytes(data)
    for type in ("q8_0", "q4_0"):
        match = r"tensor 'blk\.1\.ffn_up\.weight' has NaN or Inf"
        refused(tmp_path, first, type, FormatError, match, allow_requantize=True)


def test_rows_that_nothing_fits(tmp_path: Path) -> None:
    arrays = random_llama.arrays()
    arrays["blk.0.extra.weight"] = np.ones((4, 96), np.float32)
    path = random_llama.write(tmp_path / "odd.gguf", arrays)
    match = r"tensor 'blk\.0\.extra\.weight': nvfp4 blocks of 64 do not divide its rows of 96"
    refused(tmp_path, path, "nvfp4", ShapeError, match)
    (out,) = quantize_file(path, tmp_path / "x.gguf", "q4_k_m")
    assert types(out)["blk.0.extra.weight"] == "q5_0"
