"""Decoding, bit for bit against the gguf package and llama.cpp."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import dequantize, needs_oracle
from test_kernels import TYPES, gguf_dequantize, random_blocks

from ggufpy.errors import ShapeError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode

BLOCK_TYPES = [type for type in TYPES if type.block_size > 1]
NUMBERS = {
    GGMLType.I8: np.int8,
    GGMLType.I16: np.int16,
    GGMLType.I32: np.int32,
    GGMLType.I64: np.int64,
    GGMLType.F64: np.float64,
}


def test_files_of_llama_quantize(shared: Path) -> None:
    paths = sorted((shared / "conformance/quants").glob("*.gguf"))
    seen = set()
    for path in paths:
        with GGUFFile.open(path) as file:
            for info in file.tensors.values():
                source = info.source()
                data = source.read(0, min(source.rows, 300))
                seen.add(info.type)
                np.testing.assert_array_equal(decode(data, info.type), gguf_dequantize(data, info.type))
    # No preset of llama-quantize makes files of the others.
    assert set(TYPES) - seen <= {GGMLType.F16, GGMLType.BF16, GGMLType.MXFP4, GGMLType.NVFP4}


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.label)
def test_random_blocks(type: GGMLType) -> None:
    data = random_blocks(type, 3, 1024)
    np.testing.assert_array_equal(decode(data, type), gguf_dequantize(data, type))


@needs_oracle
@pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda t: t.label)
def test_random_blocks_as_llama_cpp_reads_them(type: GGMLType) -> None:
    data = random_blocks(type, 3, 1024)
    np.testing.assert_array_equal(decode(data, type).ravel(), dequantize(data.reshape(-1), type, 3 * 1024))


@pytest.mark.parametrize("type", [GGMLType.MXFP4, GGMLType.NVFP4], ids=lambda t: t.label)
def test_every_scale(type: GGMLType) -> None:
    data = np.arange(256, dtype=np.uint8)[:, None] * np.ones(type.block_bytes, np.uint8)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(decode(data, type), gguf_dequantize(data, type))


@pytest.mark.parametrize("type", NUMBERS, ids=lambda t: t.label)
def test_numbers(type: GGMLType) -> None:
    values = np.array([[0, 1, -1], [127, -128, 100]]).astype(NUMBERS[type])
    decoded = decode(values.view(np.uint8), type)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, values)


def test_types_of_activations() -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (2, 256)).astype(np.int8)
    d = np.array([0.5, 3.25], np.float32)[:, None]
    sums = q.reshape(2, 16, 16).sum(2).astype(np.int16)
    q8_k = np.hstack([d.view(np.uint8), q.view(np.uint8), sums.view(np.uint8)])
    np.testing.assert_array_equal(decode(q8_k, GGMLType.Q8_K), d * q)
    half = d.astype(np.float16).view(np.uint8)
    q8_1 = np.hstack([half, half, q[:, :32].view(np.uint8)])
    np.testing.assert_array_equal(decode(q8_1, GGMLType.Q8_1), d * q[:, :32])


@pytest.mark.parametrize("type", GGMLType, ids=lambda t: t.label)
def test_no_rows(type: GGMLType) -> None:
    assert decode(np.empty((0, type.block_bytes), np.uint8), type).shape == (0, type.block_size)
    assert decode(np.empty((2, 0), np.uint8), type).shape == (2, 0)


def test_rows_that_are_not_contiguous() -> None:
    data = random_blocks(GGMLType.Q8_0, 6, 64)
    np.testing.assert_array_equal(decode(data[::2], GGMLType.Q8_0), decode(data, GGMLType.Q8_0)[::2])


@pytest.mark.parametrize(
    "data", [np.zeros((1, 17), np.uint8), np.zeros(18, np.uint8), np.zeros((1, 18), np.int8)], ids=str
)
def test_shapes_that_do_not_fit_are_refused(data: NDArray[np.uint8]) -> None:
    with pytest.raises(ShapeError, match="decode takes uint8"):
        decode(data, GGMLType.Q4_0)
