"""K types, and q4_0 to q5_1 with weights, against llama.cpp: live, and the files llama-quantize made."""

from pathlib import Path

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from oracle import needs_oracle

from ggufpy.errors import FormatError, ShapeError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import THOROUGH_ENCODERS, Search, encode, quantized

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

K_TYPES = [GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K]
SMALL_TYPES = [GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1]
COLUMNS = 768
SEARCHES: tuple[Search, ...] = ("reference", "thorough")

# The largest root of the summed squares of errors over n that test-quantize-fns of llama.cpp allows.
ROUND_TRIP_LIMITS = {GGMLType.Q2_K: 0.0075, GGMLType.Q3_K: 0.004}


def column_weights() -> Floats:
    """Means of squares, as an importance matrix holds: most alike, a few large, some zero."""
    rng = np.random.default_rng(7)
    weights = rng.standard_normal(COLUMNS) ** 2 * 10.0 ** rng.integers(-2, 3, COLUMNS)
    weights[rng.random(COLUMNS) < 0.02] = 0
    weights[64:96] = 0
    return weights.astype(np.float32)


def gaussian() -> Floats:
    return (0.02 * np.random.default_rng(1).standard_normal((70, COLUMNS))).astype(np.float32)


def heavy_tailed() -> Floats:
    return (0.02 * np.random.default_rng(2).standard_t(2, (70, COLUMNS))).astype(np.float32)


def one_sided() -> Floats:
    """All of one sign in a block, so that the minimum is 0 or far away."""
    return np.abs(gaussian()) * np.where(np.arange(70) % 2, 1, -1).astype(np.float32)[:, None]


def sparse() -> Floats:
    """Many zeros, among them whole sub-blocks and blocks."""
    rng = np.random.default_rng(3)
    x = gaussian() * (rng.random((70, COLUMNS)) < 0.2)
    x.reshape(-1, 16)[rng.random(x.size // 16) < 0.3] = 0
    x.reshape(-1, 256)[::5] = 0
    return x + np.float32(0)


def whole_numbers() -> Floats:
    return np.random.default_rng(4).integers(-3, 4, (70, COLUMNS)).astype(np.float32)


def sizes() -> Floats:
    """Rows from just above nothing to near the end of f16."""
    return (gaussian() * 10.0 ** np.linspace(-14, 5, 70)[:, None]).astype(np.float32)


def constants() -> Floats:
    rows = [0, 1, -1, 0.1, -0.1, 1e-6, -1e-6, 1e-20, -1e-20, 100]
    return np.repeat(np.array(rows, np.float32), COLUMNS).reshape(-1, COLUMNS)


DATA = (gaussian, heavy_tailed, one_sided, sparse, whole_numbers, sizes, constants)


def decode(blocks: Bytes, type: GGMLType, shape: tuple[int, ...]) -> Floats:
    return oracle.dequantize(blocks.reshape(-1), type, int(np.prod(shape))).reshape(shape)


def squared_error(blocks: Bytes, type: GGMLType, x: Floats, weights: Floats | None) -> float:
    difference = decode(blocks, type, x.shape).astype(np.float64) - x
    return float((difference**2 * (1 if weights is None else weights)).sum())


def identical(ours: Bytes, theirs: Bytes, type: GGMLType) -> float:
    """The share of blocks that are the same."""
    blocks = ours.reshape(-1, type.block_bytes) == theirs.reshape(-1, type.block_bytes)
    return float(blocks.all(axis=1).mean())


@needs_oracle
@pytest.mark.parametrize("weighted", [False, True], ids=["alone", "weighted"])
@pytest.mark.parametrize("type", [*K_TYPES, *SMALL_TYPES], ids=lambda type: type.label)
def test_equal_to_llama_cpp(type: GGMLType, weighted: bool) -> None:
    weights = column_weights() if weighted else None
    x = np.concatenate([make() for make in DATA])
    theirs = np.frombuffer(oracle.quantize(x, type, weights), np.uint8)
    assert identical(encode(x, type, weights), theirs, type) >= 0.999


@needs_oracle
@pytest.mark.parametrize("weighted", [False, True], ids=["alone", "weighted"])
@pytest.mark.parametrize("type", [*K_TYPES, *SMALL_TYPES], ids=lambda type: type.label)
def test_equal_to_what_llama_quantize_wrote(type: GGMLType, weighted: bool, shared: Path) -> None:
    assert identical_in_files(type, weighted, shared) >= 0.999


def identical_in_files(type: GGMLType, weighted: bool, shared: Path) -> float:
    """The share of blocks that are llama-quantize's; on no tensor is the error more than 0.1 % larger."""
    folder = shared / "conformance" / "quants"
    name = type.name.lower() + ("-imatrix" if weighted else "")
    same = blocks = 0
    with (
        GGUFFile.open(folder / "source-f32.gguf") as source,
        GGUFFile.open(folder / "imatrix.gguf") as imatrix,
        GGUFFile.open(folder / f"{name}.gguf") as theirs,
    ):
        for tensor in theirs.tensors.values():
            if tensor.type is not type:
                continue
            x = source.tensors[tensor.name].data.view(np.float32).reshape(-1, tensor.shape[-1])
            weights = matrix_of(imatrix, tensor.name) if weighted else None
            ours = encode(x, type, weights).reshape(-1, type.block_bytes)
            want = np.asarray(tensor.data).reshape(-1, type.block_bytes)
            same, blocks = same + int((ours == want).all(axis=1).sum()), blocks + len(ours)
            limit = 1.001 * squared_error(want, type, x, weights)
            assert squared_error(ours, type, x, weights) <= limit, tensor.name
    assert blocks > 0
    return same / blocks


def matrix_of(imatrix: GGUFFile, name: str) -> Floats | None:
    if f"{name}.counts" not in imatrix.tensors:
        return None
    sums = imatrix.tensors[f"{name}.in_sum2"].data.view(np.float32).reshape(-1)
    mean: Floats = sums / imatrix.tensors[f"{name}.counts"].data.view(np.float32).reshape(-1)
    return mean


@needs_oracle
@pytest.mark.parametrize("weighted", [False, True], ids=["alone", "weighted"])
@pytest.mark.parametrize("type", [*K_TYPES, *SMALL_TYPES], ids=lambda type: type.label)
def test_round_trip_within_the_limits_of_llama_cpp(type: GGMLType, weighted: bool) -> None:
    x = (0.1 + 2 * np.cos(np.arange(4096))).astype(np.float32).reshape(1, -1)
    weights = np.ones(4096, np.float32) if weighted else None
    error = np.sqrt(squared_error(encode(x, type, weights), type, x, None)) / x.size
    assert error < ROUND_TRIP_LIMITS.get(type, 0.002)


@pytest.mark.parametrize("type", [GGMLType.Q4_K, GGMLType.Q6_K, GGMLType.Q4_1], ids=lambda type: type.label)
def test_rows_are_encoded_alone(type: GGMLType) -> None:
    """Blocks are worked on 16 at a time, whichever row they are of."""
    x, weights = heavy_tailed(), column_weights()
    want = np.concatenate([encode(row[None], type, weights) for row in x])
    np.testing.assert_array_equal(encode(x, type, weights), want)


def test_every_expert_has_its_own_weights() -> None:
    x = gaussian().reshape(2, 35, COLUMNS)
    weights = np.stack([column_weights(), column_weights()[::-1]])
    flat = x.reshape(70, COLUMNS)

    def read(start: int, stop: int) -> Bytes:
        return flat[start:stop].view(np.uint8)

    source = TensorSource("experts", x.shape, GGMLType.F32, read)
    want = np.concatenate([encode(x[i], GGMLType.Q4_K, weights[i]) for i in range(2)])
    result = quantized(source, GGMLType.Q4_K, weights)
    for start, stop in ((0, 70), (30, 41), (36, 37)):
        np.testing.assert_array_equal(result.read(start, stop), want[start:stop])


@needs_oracle
@pytest.mark.parametrize("weighted", [False, True], ids=["alone", "weighted"])
@pytest.mark.parametrize("type", THOROUGH_ENCODERS, ids=lambda type: type.label)
def test_thorough_never_errs_more(type: GGMLType, weighted: bool) -> None:
    weights = column_weights() if weighted else None
    for make in DATA:
        x = make()
        errors = {
            search: squared_error(encode(x, type, weights, search=search), type, x, weights)
            for search in SEARCHES
        }
        assert errors["thorough"] <= 1.000001 * errors["reference"], make.__name__
        if make is gaussian:
            assert errors["thorough"] < 0.98 * errors["reference"]


def test_weights_that_do_not_fit() -> None:
    x = gaussian()
    source = TensorSource("w", x.shape, GGMLType.F32, lambda start, stop: x[start:stop].view(np.uint8))
    with pytest.raises(ShapeError, match=r"weights of shape \(768,\), not \(3,\)"):
        encode(x, GGMLType.Q4_K, np.ones(3, np.float32))
    with pytest.raises(ShapeError, match="tensor 'w'"):
        quantized(source, GGMLType.Q4_K, np.ones((2, COLUMNS), np.float32))
    with pytest.raises(FormatError, match="NaN or Inf"):
        encode(x, GGMLType.Q4_K, np.full(COLUMNS, np.nan, np.float32))
