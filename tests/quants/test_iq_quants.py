"""IQ types against llama.cpp: live, and the files that llama-quantize made."""

from pathlib import Path

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from oracle import needs_oracle
from test_k_quants import (
    COLUMNS,
    column_weights,
    constants,
    gaussian,
    heavy_tailed,
    identical,
    identical_in_files,
    one_sided,
    sizes,
    sparse,
    squared_error,
    whole_numbers,
)

from ggufpy.errors import FormatError
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import NEEDS_WEIGHTS, decode, encode
from ggufpy.quants.formats.iq_grids import grid

Floats = NDArray[np.float32]

IQ_TYPES = [type for type in GGMLType if type.name.startswith("IQ")]
WEIGHT_FREE = [type for type in IQ_TYPES if type not in NEEDS_WEIGHTS]
CASES = [(type, True) for type in IQ_TYPES] + [(type, False) for type in WEIGHT_FREE]

# The largest root of the summed squares of errors over n that test-quantize-fns of llama.cpp allows; it has
# none for the types that are not here.
ROUND_TRIP_LIMITS = {
    GGMLType.IQ2_S: 0.0075,
    GGMLType.IQ3_XXS: 0.005,
    GGMLType.IQ3_S: 0.004,
    GGMLType.IQ4_NL: 0.002,
    GGMLType.IQ4_XS: 0.002,
}

# The share of blocks that are the same, where less than 0.999. In iq1_m two cuts often fit equally well and
# rounding chooses: with very uneven weights, as in the live tests, in rows of one value, as in the files.
SAME_LIVE = {GGMLType.IQ1_M: 0.8}
SAME_IN_FILES = {GGMLType.IQ1_M: 0.99}


def label(case: object) -> str:
    return case.label if isinstance(case, GGMLType) else "weighted" if case else "alone"


def positive_weights() -> Floats:
    """llama.cpp stops the process where a sub-block of iq1 has no weight above 0."""
    return np.maximum(column_weights(), np.float32(1e-3))


def ordinary() -> Floats:
    """Without rows so small that all scales are 0 in f16: what llama.cpp leaves beside them is chance."""
    small = np.abs(sizes()).max(axis=1) < 1e-7
    return np.concatenate([gaussian(), heavy_tailed(), one_sided(), whole_numbers(), sizes()[~small]])


@needs_oracle
@pytest.mark.parametrize("type, weighted", CASES, ids=label)
def test_equal_to_llama_cpp(type: GGMLType, weighted: bool) -> None:
    weights = positive_weights() if weighted else None
    x = ordinary()
    ours = encode(x, type, weights)
    theirs = np.frombuffer(oracle.quantize(x, type, weights), np.uint8).reshape(ours.shape)
    assert identical(ours, theirs, type) >= SAME_LIVE.get(type, 0.999)
    assert squared_error(ours, type, x, weights) <= 1.001 * squared_error(theirs, type, x, weights)


@needs_oracle
@pytest.mark.parametrize("type, weighted", CASES, ids=label)
def test_zeros_do_no_more_harm_than_in_llama_cpp(type: GGMLType, weighted: bool) -> None:
    """iq3_s there shifts what follows 32 zeros: its error is a multiple of ours."""
    weights, x = positive_weights() if weighted else None, sparse()
    ours = encode(x, type, weights)
    theirs = np.frombuffer(oracle.quantize(x, type, weights), np.uint8)
    assert squared_error(ours, type, x, weights) <= 1.001 * squared_error(theirs, type, x, weights)


@needs_oracle
@pytest.mark.parametrize("type, weighted", CASES, ids=label)
def test_equal_to_what_llama_quantize_wrote(type: GGMLType, weighted: bool, shared: Path) -> None:
    assert identical_in_files(type, weighted, shared) >= SAME_IN_FILES.get(type, 0.999)


@pytest.mark.parametrize("type", ROUND_TRIP_LIMITS, ids=label)
def test_round_trip_within_the_limits_of_llama_cpp(type: GGMLType) -> None:
    x = (0.1 + 2 * np.cos(np.arange(4096))).astype(np.float32).reshape(1, -1)
    packed = encode(x, type, np.ones(4096, np.float32))
    error = np.sqrt(np.square(decode(packed, type) - x, dtype=np.float64).sum()) / x.size
    assert error < ROUND_TRIP_LIMITS[type]


@pytest.mark.parametrize("type", [GGMLType.IQ4_NL, GGMLType.IQ4_XS, GGMLType.IQ3_S], ids=label)
def test_rows_are_encoded_alone(type: GGMLType) -> None:
    """Blocks are worked on 16 at a time, whichever row they are of."""
    x, weights = heavy_tailed(), column_weights()
    want = np.concatenate([encode(row[None], type, weights) for row in x])
    np.testing.assert_array_equal(encode(x, type, weights), want)


@pytest.mark.parametrize("type", IQ_TYPES, ids=label)
def test_columns_that_do_not_count(type: GGMLType) -> None:
    for weights in (column_weights(), np.zeros(COLUMNS, np.float32)):
        for x in (heavy_tailed(), sparse(), constants()):
            assert np.isfinite(decode(encode(x, type, weights), type)).all()


@pytest.mark.parametrize("type", sorted(NEEDS_WEIGHTS), ids=label)
def test_types_that_need_weights_say_so(type: GGMLType) -> None:
    with pytest.raises(FormatError, match=f"^{type.label} needs the importance of the columns; give "):
        encode(gaussian(), type)


def test_near_points_are_the_nearest_in_order() -> None:
    """The order decides between points that fit equally well."""
    points = grid("iq2_xs")
    levels = (points.levels - 1) / 2
    for code in np.flatnonzero(points.point < 0)[::500]:
        group = code // 3 ** np.arange(8) % 3
        apart = ((levels - group) ** 2).sum(axis=1)
        limit = np.unique(apart)[1]
        want = [at for at in np.argsort(apart, kind="stable") if apart[at] <= limit]
        assert points.near[points.near_start[code] : points.near_start[code + 1]].tolist() == want
