"""Tensors made of tensors: any rows of the result, read alone, are those of the whole."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf import sources
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

Array = NDArray[np.float32]
RNG = np.random.default_rng(3)
MATRIX = RNG.standard_normal((24, 10)).astype(np.float32)
THREE = RNG.standard_normal((3, 8, 6)).astype(np.float32)
VECTOR = RNG.standard_normal(24).astype(np.float32)


def source(x: Array, dtype: str = "F32", name: str = "x") -> TensorSource:
    """A tensor in memory, stored as `dtype`."""
    stored = tiny.rounded(x, dtype)
    data = np.ascontiguousarray(stored).reshape(-1, x.shape[-1]).view(np.uint8)
    return TensorSource(name, x.shape, GGMLType[dtype], lambda start, stop: data[start:stop])


def halves_to_pairs(x: Array, heads: int) -> Array:
    return x.reshape(heads, 2, len(x) // heads // 2, -1).swapaxes(1, 2).reshape(x.shape)


BYTES = np.arange(24, dtype=np.uint8).reshape(4, 6) * 11
BITS = np.concatenate([BYTES >> shift & 3 for shift in (0, 2, 4, 6)]).astype(np.float32)
OF_BYTES = TensorSource("x", BYTES.shape, GGMLType.I8, lambda start, stop: BYTES[start:stop])
MAGNITUDE = np.abs(MATRIX, dtype=np.float64).mean().astype(np.float32)

MADE: dict[str, tuple[TensorSource, Array]] = {
    "pairs": (sources.pairs(source(MATRIX), 3), halves_to_pairs(MATRIX, 3)),
    "pairs of the first values of heads": (
        sources.pairs(source(MATRIX), 3, 4),
        MATRIX[[base + i for base in (0, 8, 16) for i in (0, 2, 1, 3, 4, 5, 6, 7)]],
    ),
    "pairs of a bias": (sources.pairs(source(VECTOR), 2), halves_to_pairs(VECTOR, 2)),
    "rows": (sources.rows(source(MATRIX), slice(3, 20)), MATRIX[3:20]),
    "every other row": (sources.rows(source(MATRIX), slice(1, None, 2)), MATRIX[1::2]),
    "rows of each": (sources.rows(source(THREE), slice(4, None)), THREE[:, 4:]),
    "rows in any order": (sources.rows(source(MATRIX), np.arange(24)[::-1].copy()), MATRIX[::-1]),
    "columns": (sources.columns(source(MATRIX), slice(None, None, 2)), MATRIX[:, ::2]),
    "columns of a vector": (sources.columns(source(VECTOR), slice(5, 9)), VECTOR[5:9]),
    "stack": (
        sources.stack([source(MATRIX), source(-MATRIX), source(MATRIX)]),
        np.stack([MATRIX, -MATRIX, MATRIX]),
    ),
    "stack of vectors": (sources.stack([source(VECTOR), source(-VECTOR)]), np.stack([VECTOR, -VECTOR])),
    "padded": (sources.padded(source(MATRIX), 30), np.concatenate([MATRIX, MATRIX[:1].repeat(6, axis=0)])),
    "transposed": (sources.transposed(source(MATRIX)), MATRIX.T),
    "transposed each": (sources.transposed(source(THREE)), THREE.swapaxes(1, 2)),
    "reshaped, same rows": (sources.reshaped(source(THREE), (24, 6)), THREE.reshape(24, 6)),
    "reshaped, narrower": (sources.reshaped(source(MATRIX), (60, 4)), MATRIX.reshape(60, 4)),
    "reshaped, wider": (sources.reshaped(source(MATRIX), (8, 30)), MATRIX.reshape(8, 30)),
    "reshaped vector": (sources.reshaped(source(VECTOR), (24, 1)), VECTOR.reshape(24, 1)),
    "unit rows": (
        sources.unit_rows(source(MATRIX)),
        MATRIX / np.linalg.norm(MATRIX, axis=-1, keepdims=True),
    ),
    "scaled": (sources.scaled(source(MATRIX), MATRIX[0, :1]), MATRIX * MATRIX[0, 0]),
    "scaled rows": (sources.scaled(source(MATRIX), VECTOR), MATRIX * VECTOR[:, None]),
    "scaled vector": (sources.scaled(source(VECTOR), VECTOR), VECTOR * VECTOR),
    "ternary": (
        sources.ternary(source(MATRIX)),
        np.rint(MATRIX / MAGNITUDE).clip(-1, 1) * MAGNITUDE,
    ),
    "packed ternary": (
        sources.packed_ternary(OF_BYTES, source(VECTOR[:1]), divides=False),
        (BITS - 1) * VECTOR[0],
    ),
    "plus one": (sources.plus_one(source(MATRIX)), MATRIX + 1),
    "negative exp": (
        sources.negative_exp(source(MATRIX)),
        -np.exp(MATRIX.astype(np.float64)).astype(np.float32),
    ),
    "constant": (sources.constant("x", MATRIX), MATRIX),
    "all at once": (
        sources.plus_one(
            sources.rows(sources.transposed(sources.stack([source(MATRIX)] * 2)), slice(1, None, 3))
        ),
        np.stack([MATRIX.T[1::3]] * 2) + 1,
    ),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("step", [1, 5, 7, 11, 1000])
def test_rows_of_a_made_tensor(name: str, step: int) -> None:
    made, want = MADE[name]
    assert made.shape == want.shape
    parts = [made.read(start, min(start + step, made.rows)) for start in range(0, made.rows, step)]
    assert all(part.shape[1] == made.row_bytes for part in parts)
    got = np.concatenate(parts).view("<f4").reshape(want.shape)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_numbers_of_every_width(dtype: str) -> None:
    x = tiny.as_floats(tiny.rounded(THREE, dtype))
    assert np.array_equal(tiny.values(sources.transposed(source(THREE, dtype))), x.swapaxes(1, 2))
    assert np.array_equal(tiny.values(sources.columns(source(THREE, dtype), slice(1, 3))), x[..., 1:3])
    assert np.array_equal(tiny.values(sources.reshaped(source(THREE, dtype), (9, 16))), x.reshape(9, 16))
    plus_one = sources.plus_one(source(THREE, dtype))
    assert plus_one.type is GGMLType.F32 and np.array_equal(tiny.values(plus_one), x + np.float32(1))


def test_a_stack_of_several_types_is_f32() -> None:
    made = sources.stack([source(MATRIX, "F16"), source(MATRIX, "BF16")])
    want = [tiny.as_floats(tiny.rounded(MATRIX, dtype)) for dtype in ("F16", "BF16")]
    assert made.type is GGMLType.F32 and np.array_equal(tiny.values(made), np.stack(want))


def test_what_does_not_fit_stays_as_it_is() -> None:
    vector, matrix = source(VECTOR), source(MATRIX)
    assert sources.rows(vector, slice(3)) is vector
    assert sources.transposed(vector) is vector
    assert sources.reshaped(matrix, (7, 7)) is matrix
    assert sources.pairs(matrix, 5) is matrix
    assert sources.pairs(matrix, 8) is matrix  # heads of three rows have no halves
    assert sources.pairs(matrix, 0) is matrix
    assert sources.scaled(matrix, VECTOR[:5]) is matrix
    assert sources.pairs(matrix, 3, 10) is matrix


def test_what_cannot_be() -> None:
    with pytest.raises(FormatError, match=r"'b' has shape \(3, 8, 6\), 'a' has \(24, 10\); they"):
        sources.stack([source(MATRIX, name="a"), source(THREE, name="b")])
    integers = replace(source(MATRIX), type=GGMLType.I32)
    with pytest.raises(UnsupportedModelError, match="'x' is i32, it must be of floats"):
        sources.plus_one(integers)
    blocks = replace(source(np.zeros((2, 32), np.float32)), type=GGMLType.Q8_0)
    with pytest.raises(UnsupportedModelError, match="'x' is q8_0, whose numbers"):
        sources.transposed(blocks)


BIG = (4, 512, 8192)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: sources.stack([x, x]),
        lambda x: sources.rows(x, slice(0, None, 2)),
        lambda x: sources.reshaped(x, (4 * 8192, 512)),
        sources.transposed,
        sources.plus_one,
    ],
    ids=["stack", "rows", "reshaped", "transposed", "plus one"],
)
def test_reading_takes_a_few_slabs(make: Callable[[TensorSource], TensorSource]) -> None:
    """The tensor has 64 MB; a few rows of the result come with a few slabs of 4 MB."""
    rows = TensorSource("x", BIG, GGMLType.F32, lambda a, b: np.ones((b - a, BIG[2] * 4), np.uint8))
    made = make(rows)
    step = (2 << 20) // made.row_bytes
    tracemalloc.start()
    for start in (0, made.rows // 2 - step // 2, made.rows - step):
        made.read(start, start + step)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_packed_numbers_have_one_scale() -> None:
    with pytest.raises(
        FormatError, match=r"'x' has shape \(4, 6\), 'x' has \(24,\); they are no packed matrix"
    ):
        sources.packed_ternary(OF_BYTES, source(VECTOR), divides=True)


def packed(name: str, x: NDArray[np.uint8]) -> TensorSource:
    data = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    return TensorSource(name, x.shape, GGMLType.I8, lambda start, stop: data[start:stop])
