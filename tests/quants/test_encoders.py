"""The encoders, bit for bit against the gguf package and against ggml itself; what they refuse."""

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

import ggufpy
from ggufpy import _kernels
from ggufpy.errors import FormatError, ShapeError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import encode, quantized

# What the gguf package can write as well; the others have tests of their own.
BLOCK_TYPES = [GGMLType.Q8_0, GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1]
TYPES = [GGMLType.F32, GGMLType.F16, GGMLType.BF16, *BLOCK_TYPES]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def gguf_encode(x: Floats, type: GGMLType) -> Bytes:
    with np.errstate(all="ignore"):
        packed: Bytes = gguf.quants.quantize(x, gguf.GGMLQuantizationType(type)).view(np.uint8)
    return packed


@pytest.fixture(scope="session")
def ggml_encode() -> Callable[[Floats, GGMLType], Bytes]:
    """ggml_quantize_chunk of the xllamacpp wheel."""
    xllamacpp = pytest.importorskip("xllamacpp")
    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp.*.so"))))
    chunk = library.ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    chunk.argtypes = [ctypes.c_int, pointer, pointer, integer, integer, integer, pointer]

    def encode_chunk(x: Floats, type: GGMLType) -> Bytes:
        out = np.zeros((x.shape[0], type.row_bytes(x.shape[1])), np.uint8)
        x = np.ascontiguousarray(x)
        assert chunk(type, x.ctypes.data, out.ctypes.data, 0, *x.shape, None) == out.nbytes
        return out

    return encode_chunk


def random_rows() -> Floats:
    """Rows of very different sizes, some with outliers, some sparse."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 256)) * 10.0 ** rng.integers(-9, 5, (300, 1))
    x[::3] *= rng.random((100, 256)) < 0.1
    x[1::3] *= 1 + 50 * (rng.random((100, 256)) < 0.02)
    return x.astype(np.float32) + np.float32(0)  # no -0.0, see test_the_sign_of_zero


def ties() -> Floats:
    """Multiples of a quarter of a step, so that many quotients lie on or beside a rounding border."""
    rng = np.random.default_rng(2)
    x = rng.integers(-64, 65, (400, 64)) / np.float32(4)
    x[:, 0] = np.where(np.arange(400) % 2, 127, -16)
    return (x * 2.0 ** rng.integers(-10, 5, (400, 1))).astype(np.float32)


def extremes() -> Floats:
    """Zeros, constants, denormals, values that make scales overflow, and what lies between them."""
    ramp = np.linspace(-1, 1, 32)
    rows = [np.zeros(32), np.full(32, -0.0), np.full(32, 3.0), np.full(32, -1e-7)]
    rows += [ramp * size for size in 10.0 ** np.arange(-45, 39)]
    rows += [(ramp + 1.5) * size for size in 10.0 ** np.arange(-45, 38)]
    rows += [np.where(np.arange(32) == at, 1e5, ramp) for at in (0, 15, 16, 31)]
    rows += [np.where(np.arange(32) % 2, 5.0, -5.0), np.where(np.arange(32) % 2, -5.0, 5.0)]
    return np.array(rows).astype(np.float32)


def f16_borders() -> Floats:
    """Blocks whose scales lie on and beside the borders between two f16 numbers, normal and denormal."""
    bits = np.arange(0, 0x7C00, 7, dtype=np.uint16)
    scales = bits.view(np.float16).astype(np.float64)
    middles = (scales + (bits + 1).astype(np.uint16).view(np.float16)) / 2
    near = [np.nextafter(middles.astype(np.float32), np.float32(to)) for to in (0, 1e9)]
    wanted = np.concatenate([scales, middles, *near])
    x = np.zeros((wanted.size, 32))
    x[:, 3] = wanted * 127
    x[:, 4] = -wanted * 8
    return x[np.isfinite(x).all(axis=1)].astype(np.float32)


DATA = {make.__name__: make for make in (random_rows, ties, extremes, f16_borders)}


@pytest.mark.parametrize("type", TYPES, ids=lambda type: type.label)
@pytest.mark.parametrize("data", DATA)
def test_equal_to_the_gguf_package(type: GGMLType, data: str) -> None:
    x = DATA[data]()
    np.testing.assert_array_equal(encode(x, type), gguf_encode(x, type))


@pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda type: type.label)
@pytest.mark.parametrize("data", DATA)
def test_equal_to_ggml(type: GGMLType, data: str, ggml_encode: Callable[[Floats, GGMLType], Bytes]) -> None:
    x = DATA[data]()
    x = x + np.float32(0)  # no -0.0, see test_the_sign_of_zero
    np.testing.assert_array_equal(encode(x, type), ggml_encode(x, type))


@pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda type: type.label)
def test_the_sign_of_zero(type: GGMLType) -> None:
    """For blocks of zeros, ggml and the gguf package give the scale different signs; ours is the latter's.

    Which of several zeros is the least, in q4_1 and q5_1, is chance there: only the value counts then.
    """
    mixed = np.where(np.arange(32) % 2, 0.0, -0.0).astype(np.float32)
    for x in (np.full((1, 32), -0.0, np.float32), mixed.reshape(1, 32)):
        decode = partial(gguf.quants.dequantize, qtype=gguf.GGMLQuantizationType(type))
        np.testing.assert_array_equal(decode(encode(x, type)), decode(gguf_encode(x, type)))
        if type in (GGMLType.Q8_0, GGMLType.Q4_0, GGMLType.Q5_0):
            np.testing.assert_array_equal(encode(x, type), gguf_encode(x, type))


def test_every_bf16_and_f16_number() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    from_bf16 = (halves.astype(np.uint32) << 16).view(np.float32).reshape(1, -1)
    nan = np.isnan(from_bf16)
    back = encode(from_bf16, GGMLType.BF16).view(np.uint16)
    np.testing.assert_array_equal(back[~nan], halves[~nan[0]])
    np.testing.assert_array_equal(encode(from_bf16, GGMLType.F16), gguf_encode(from_bf16, GGMLType.F16))
    np.testing.assert_array_equal(back, gguf_encode(from_bf16, GGMLType.BF16).view(np.uint16))


@pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda type: type.label)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_blocks_refuse_what_is_not_finite(type: GGMLType, value: float) -> None:
    x = np.ones((3, 64), np.float32)
    x[1, 40] = value
    with pytest.raises(FormatError, match="NaN or Inf"):
        encode(x, type)
    with pytest.raises(FormatError, match=r"tensor 'w\.weight'.*NaN or Inf"):
        quantized(source(x), type).read(0, 3)


@pytest.mark.parametrize("type", [GGMLType.F16, GGMLType.Q4_1], ids=lambda type: type.label)
def test_a_model_beyond_the_range_of_f16_is_refused(type: GGMLType) -> None:
    with pytest.raises(FormatError, match=r"tensor 'w\.weight': 70000 is beyond the range of f16"):
        quantized(source(np.full((2, 32), -70000, np.float32)), type).read(0, 2)


def test_what_encode_does_not_take() -> None:
    with pytest.raises(ShapeError, match="row of 33"):
        encode(np.zeros((2, 33), np.float32), GGMLType.Q8_0)
    with pytest.raises(ShapeError, match="float32"):
        encode(np.zeros(32, np.float32), GGMLType.Q8_0)
    with pytest.raises(UnsupportedModelError, match="cannot write q8_K"):
        encode(np.zeros((1, 256), np.float32), GGMLType.Q8_K)
    integers = TensorSource("ids", (2,), GGMLType.I32, lambda start, stop: np.zeros((1, 8), np.uint8))
    with pytest.raises(UnsupportedModelError, match="'ids' is i32"):
        quantized(integers, GGMLType.F32)


def source(x: Floats) -> TensorSource:
    return TensorSource("w.weight", x.shape, GGMLType.F32, lambda start, stop: x[start:stop].view(np.uint8))


@pytest.mark.parametrize("type", TYPES, ids=lambda type: type.label)
@pytest.mark.parametrize("dtype", [GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.F64])
def test_quantized_reads_any_rows_of_any_float(type: GGMLType, dtype: GGMLType) -> None:
    x = np.random.default_rng(3).standard_normal((700, 512)).astype(np.float32)
    if dtype is GGMLType.F64:
        stored, x = x.astype(np.float64).view(np.uint8), x
    else:
        stored = gguf_encode(x, dtype).reshape(700, -1)
        x = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType(dtype)).reshape(700, 512)
    result = quantized(TensorSource("w", x.shape, dtype, lambda start, stop: stored[start:stop]), type)
    assert (result.name, result.shape, result.type) == ("w", (700, 512), type)
    want = gguf_encode(x, type).reshape(700, -1)
    for start, stop in ((0, 700), (0, 1), (299, 557)):
        np.testing.assert_array_equal(result.read(start, stop), want[start:stop])


# Lets numba write only where argv[1] says, as an installation that belongs to another user does.
READ_ONLY_INSTALL = """
import sys, os, tempfile
from pathlib import Path
package, allowed = Path(sys.argv[1]), Path(sys.argv[2])
real = tempfile.TemporaryFile
def guarded(*args, dir=None, **options):
    if dir is not None and not Path(dir).is_relative_to(allowed):
        raise PermissionError(f"read-only: {dir}")
    return real(*args, dir=dir, **options)
tempfile.TemporaryFile = guarded
import numpy as np
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import encode
assert Path(sys.modules["ggufpy"].__file__).is_relative_to(package)
print(encode(np.ones((1, 32), np.float32), GGMLType.Q8_0).tobytes().hex())
"""


@pytest.mark.parametrize("writable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME", None])
def test_compiles_when_the_package_is_read_only(tmp_path: Path, writable: str | None) -> None:
    package = Path(ggufpy.__file__).parent
    for part in ("__init__.py", "errors.py", "gguf", "quants"):
        copy = shutil.copytree if (package / part).is_dir() else shutil.copy
        (tmp_path / "site" / "ggufpy").mkdir(parents=True, exist_ok=True)
        copy(package / part, tmp_path / "site" / "ggufpy" / part)
    shutil.copy(_kernels.__file__, tmp_path / "site" / "ggufpy")
    for cache in (tmp_path / "site").rglob("__pycache__"):
        shutil.rmtree(cache)
    (tmp_path / "cache").mkdir()
    environment = {
        # Without `site` an editable install does not get in the way; its libraries are named instead.
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), sysconfig.get_path("purelib")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(tmp_path / "home"),
    }
    if writable:
        environment[writable] = str(tmp_path / "cache")
    run = subprocess.run(
        [
            sys.executable,
            "-S",
            "-W",
            "error",
            "-c",
            READ_ONLY_INSTALL,
            str(tmp_path / "site"),
            str(tmp_path / "cache"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    want = gguf_encode(np.ones((1, 32), np.float32), GGMLType.Q8_0).tobytes().hex()
    assert run.stdout.strip() == want
    assert not list((tmp_path / "site").rglob("*.nbi"))
    assert bool(list((tmp_path / "cache").rglob("*.nbi"))) == bool(writable)
