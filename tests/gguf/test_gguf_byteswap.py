"""Big-endian files: their tensors come out as little-endian rows."""

import argparse
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.scripts import gguf_convert_endian
from gguf_bytes import ARRAY, STRING, array, entry, gguf_bytes, string, tensor, u32, write

from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType

# Blocks as ggml-common.h declares them; the fifth bits of Q5 are one native 32-bit number on either machine.
BLOCKS: dict[GGMLType, list[tuple[str, str, int]]] = {
    GGMLType.F32: [("x", "f4", 1)],
    GGMLType.F16: [("x", "f2", 1)],
    GGMLType.BF16: [("x", "u2", 1)],
    GGMLType.F64: [("x", "f8", 1)],
    GGMLType.I8: [("x", "i1", 1)],
    GGMLType.I16: [("x", "i2", 1)],
    GGMLType.I32: [("x", "i4", 1)],
    GGMLType.I64: [("x", "i8", 1)],
    GGMLType.Q4_0: [("d", "f2", 1), ("qs", "u1", 16)],
    GGMLType.Q4_1: [("d", "f2", 1), ("m", "f2", 1), ("qs", "u1", 16)],
    GGMLType.Q5_0: [("d", "f2", 1), ("qh", "u4", 1), ("qs", "u1", 16)],
    GGMLType.Q5_1: [("d", "f2", 1), ("m", "f2", 1), ("qh", "u4", 1), ("qs", "u1", 16)],
    GGMLType.Q8_0: [("d", "f2", 1), ("qs", "i1", 32)],
    GGMLType.Q2_K: [("scales", "u1", 16), ("qs", "u1", 64), ("d", "f2", 1), ("dmin", "f2", 1)],
    GGMLType.Q3_K: [("hmask", "u1", 32), ("qs", "u1", 64), ("scales", "u1", 12), ("d", "f2", 1)],
    GGMLType.Q4_K: [("d", "f2", 1), ("dmin", "f2", 1), ("scales", "u1", 12), ("qs", "u1", 128)],
    GGMLType.Q5_K: [
        ("d", "f2", 1), ("dmin", "f2", 1), ("scales", "u1", 12), ("qh", "u1", 32), ("qs", "u1", 128),
    ],
    GGMLType.Q6_K: [("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), ("d", "f2", 1)],
    GGMLType.IQ1_S: [("d", "f2", 1), ("qs", "u1", 32), ("qh", "u2", 8)],
    GGMLType.IQ2_XS: [("d", "f2", 1), ("qs", "u2", 32), ("scales", "u1", 8)],
    GGMLType.IQ2_S: [("d", "f2", 1), ("rest", "u1", 80)],
    GGMLType.IQ3_S: [("d", "f2", 1), ("rest", "u1", 108)],
    GGMLType.IQ4_NL: [("d", "f2", 1), ("qs", "u1", 16)],
    GGMLType.IQ4_XS: [("d", "f2", 1), ("scales_h", "u2", 1), ("scales_l", "u1", 4), ("qs", "u1", 128)],
    GGMLType.TQ1_0: [("qs", "u1", 52), ("d", "f2", 1)],
    GGMLType.TQ2_0: [("qs", "u1", 64), ("d", "f2", 1)],
    GGMLType.MXFP4: [("e", "u1", 1), ("qs", "u1", 16)],
    GGMLType.NVFP4: [("d", "u1", 4), ("qs", "u1", 32)],
    GGMLType.Q1_0: [("d", "f2", 1), ("qs", "u1", 16)],
    GGMLType.Q2_0: [("d", "f2", 1), ("qs", "u1", 16)],
}  # fmt: skip


@pytest.mark.parametrize("type", BLOCKS, ids=lambda type: type.label)
def test_big_endian_blocks(tmp_path: Path, type: GGMLType) -> None:
    layout = np.dtype([(name, "<" + code, (n,)) for name, code, n in BLOCKS[type]])
    assert layout.itemsize == type.block_bytes
    little = np.random.default_rng(type).integers(0, 256, 3 * 2 * type.block_bytes, np.uint8)
    # Structured casts swap by value, which would change NaNs: swap the bytes of each field instead.
    big = little.view(layout).byteswap().tobytes()
    columns = 2 * type.block_size
    data = gguf_bytes([], [tensor("t", [columns, 3], type, 0, ">")], big, order=">")
    file = GGUFFile.open(write(tmp_path, data))
    source = file.tensors["t"].source()
    rows = little.reshape(3, -1)
    assert np.array_equal(source.read(0, 3), rows) and np.array_equal(source.read(1, 2), rows[1:2])
    assert file.tensors["t"].data.tobytes() == big


def test_big_endian_blocks_of_other_types(tmp_path: Path) -> None:
    data = gguf_bytes([], [tensor("t", [256], GGMLType.IQ1_M, 0, ">")], bytes(64), order=">")
    file = GGUFFile.open(write(tmp_path, data))
    with pytest.raises(UnsupportedModelError, match=r"tensor 't' is iq1_m in a big-endian file.*; get"):
        file.tensors["t"].source()


@pytest.mark.filterwarnings("ignore")
def test_big_endian_files_of_gguf_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that gguf-py's own tool turned around has the same rows as before."""
    kinds = [
        GGMLType.F32,
        GGMLType.F16,
        GGMLType.BF16,
        GGMLType.Q4_0,
        GGMLType.Q8_0,
        GGMLType.Q4_K,
        GGMLType.Q6_K,
    ]
    rng = np.random.default_rng(5)
    entries, tensors, data = [u32("a.b", 9), entry("words", ARRAY, array(STRING, 1, string("x")))], [], b""
    for type in kinds:
        tensors.append(tensor(type.label, [256, 4], type, len(data)))
        data += rng.integers(0, 256, 4 * type.row_bytes(256), np.uint8).tobytes()
        data += bytes(-len(data) % 32)
    little = GGUFFile.open(write(tmp_path, gguf_bytes(entries, tensors, data), "little.gguf"))
    path = write(tmp_path, little.path.read_bytes(), "big.gguf")
    monkeypatch.setattr("builtins.input", lambda _: "YES")
    reader = gguf.GGUFReader(path, "r+")
    gguf_convert_endian.convert_byteorder(reader, argparse.Namespace(order="big", dry_run=False))
    reader.data.flush()
    big = GGUFFile.open(path)
    assert big.byte_order == ">" and dict(big.metadata) == dict(little.metadata)
    for name, tensor_ in little.tensors.items():
        rows = big.tensors[name].source().read(0, 4)
        assert np.array_equal(rows, tensor_.source().read(0, 4)), name
