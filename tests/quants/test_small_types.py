"""Types with few levels and no search (ternary, 1-bit, 4-bit floats), bit for bit against their sources."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from oracle import needs_oracle
from test_k_quants import constants, gaussian, heavy_tailed, one_sided, sizes, sparse, whole_numbers

from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode

Floats = NDArray[np.float32]

IN_GGUF_PACKAGE = [GGMLType.TQ1_0, GGMLType.TQ2_0, GGMLType.MXFP4]
TYPES = [*IN_GGUF_PACKAGE, GGMLType.NVFP4, GGMLType.Q1_0, GGMLType.Q2_0]

# The largest root of the summed squares of errors over n that test-quantize-fns of llama.cpp allows.
ROUND_TRIP_LIMITS = {
    GGMLType.TQ1_0: 0.01,
    GGMLType.TQ2_0: 0.01,
    GGMLType.MXFP4: 0.002,
    GGMLType.NVFP4: 0.003,
    GGMLType.Q1_0: 0.025,
    GGMLType.Q2_0: 0.01,
}


def ties() -> Floats:
    """Multiples of a quarter of a step, so that many quotients lie on or beside a rounding border."""
    rng = np.random.default_rng(2)
    x = rng.integers(-64, 65, (400, 256)) / np.float32(4)
    x[:, ::16] = np.where(np.arange(400) % 2, 16, -16)[:, None]
    return (x * 2.0 ** rng.integers(-10, 5, (400, 1))).astype(np.float32)


def powers_of_two() -> Floats:
    """Blocks whose largest weight is a power of two or lies just below one."""
    powers = (2.0 ** np.arange(-100, 30)).astype(np.float32)
    largest = np.concatenate([powers, np.nextafter(powers, np.float32(0))])
    x: Floats = np.linspace(-0.9, 0.9, 256, dtype=np.float32) * largest[:, None]
    x[:, ::16] = largest[:, None]
    return x


DATA = (gaussian, heavy_tailed, one_sided, sparse, whole_numbers, sizes, constants, ties, powers_of_two)


@needs_oracle
@pytest.mark.parametrize("make", DATA)
@pytest.mark.parametrize("type", TYPES, ids=lambda type: type.label)
def test_equal_to_llama_cpp(type: GGMLType, make: Callable[[], Floats]) -> None:
    x = make() + np.float32(0)  # the sign of zero is chance there
    packed = encode(x, type)
    theirs = np.frombuffer(oracle.quantize(x, type), np.uint8).reshape(packed.shape)
    np.testing.assert_array_equal(packed, theirs)


@pytest.mark.parametrize("make", DATA)
@pytest.mark.parametrize("type", IN_GGUF_PACKAGE, ids=lambda type: type.label)
def test_equal_to_the_gguf_package(type: GGMLType, make: Callable[[], Floats]) -> None:
    x = make()
    with np.errstate(all="ignore"):
        want = gguf.quants.quantize(x, gguf.GGMLQuantizationType(type))
    np.testing.assert_array_equal(encode(x, type), want)


@pytest.mark.parametrize("type", [GGMLType.TQ1_0, GGMLType.TQ2_0, GGMLType.Q1_0, GGMLType.Q2_0])
def test_equal_to_what_llama_quantize_wrote(type: GGMLType, shared: Path) -> None:
    folder = shared / "conformance" / "quants"
    with (
        GGUFFile.open(folder / "source-f32.gguf") as source,
        GGUFFile.open(folder / f"{type.name.lower()}.gguf") as theirs,
    ):
        tensors = [tensor for tensor in theirs.tensors.values() if tensor.type is type]
        assert tensors
        for tensor in tensors:
            x = source.tensors[tensor.name].data.view(np.float32).reshape(-1, tensor.shape[-1])
            want = np.asarray(tensor.data).reshape(len(x), -1)
            np.testing.assert_array_equal(encode(x, type), want, tensor.name)


@pytest.mark.parametrize("type", TYPES, ids=lambda type: type.label)
def test_round_trip_within_the_limits_of_llama_cpp(type: GGMLType) -> None:
    x = (0.1 + 2 * np.cos(np.arange(4096))).astype(np.float32).reshape(1, -1)
    error = np.sqrt(np.square(decode(encode(x, type), type) - x, dtype=np.float64).sum()) / x.size
    assert error < ROUND_TRIP_LIMITS[type]


@pytest.mark.parametrize("type", TYPES, ids=lambda type: type.label)
def test_weights_change_nothing(type: GGMLType) -> None:
    x = gaussian()
    np.testing.assert_array_equal(encode(x, type, np.arange(x.shape[1], dtype=np.float32)), encode(x, type))
