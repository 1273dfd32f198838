"""The GGUF writer: files that gguf-py and our reader read back, and nothing left behind when it fails."""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.gguf.writer import write_gguf

METADATA: dict[str, Value | Typed] = {
    "general.architecture": "llama",
    "int": 7,
    "float": 0.5,
    "yes": True,
    "no": False,
    "text": "tä€🙂\n",
    "empty": "",
    "ints": [1, -2, 3],
    "floats": [0.5, -1.0],
    "bools": [True, False],
    "strings": ["a", "", "ß"],
    "bytes": ["\udcff\udcfe"],
}
# The largest value of every type, alone and in an array.
LARGEST = {
    ValueType.U8: 255,
    ValueType.I8: -128,
    ValueType.U16: 65535,
    ValueType.I16: -32768,
    ValueType.U32: 2**32 - 1,
    ValueType.I32: -(2**31),
    ValueType.U64: 2**64 - 1,
    ValueType.I64: -(2**63),
    ValueType.F64: 0.1,
}
for type_, value_ in LARGEST.items():
    METADATA[f"{type_.label}.alone"] = Typed(value_, type_)
    METADATA[f"{type_.label}.array"] = Typed([0, value_], type_)
METADATA["nothing"] = Typed([], ValueType.STRING)


def source(name: str, shape: tuple[int, ...], type: GGMLType = GGMLType.F32) -> TensorSource:
    """A tensor of random bytes."""
    rows, row_bytes = math.prod(shape[:-1]), type.row_bytes(shape[-1])
    data = np.random.default_rng(len(name)).integers(0, 120, (rows, row_bytes), np.uint8)
    return TensorSource(name, shape, type, lambda start, stop: data[start:stop])


TENSORS = [
    source("token_embd.weight", (5, 64), GGMLType.Q8_0),
    source("blk.0.attn_norm.weight", (3,)),
    source("four.dimensions", (2, 3, 4, 5), GGMLType.F16),
    source("no.rows", (0, 32), GGMLType.Q4_0),
    source("k", (2, 256), GGMLType.Q4_K),
    source("n" * 63, (1, 1), GGMLType.I8),
]


def plain(value: Value | Typed) -> Value:
    return value.value if isinstance(value, Typed) else value


def test_our_reader_reads_it_back(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert write_gguf(path, METADATA, TENSORS) == [path]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]
    file = GGUFFile.open(path)
    assert file.version == 3 and list(file.metadata) == list(METADATA)
    for key, value in METADATA.items():
        assert file.metadata[key] == plain(value)
        if isinstance(value, Typed):
            assert file.value_types[key] is value.type
    defaults = ("int", "float", "yes", "text", "ints", "floats", "bools", "strings")
    assert [file.value_types[key].label for key in defaults] == [
        "u32", "f32", "bool", "string", "i32", "f32", "bool", "string",
    ]  # fmt: skip
    check_tensors(file, TENSORS)
    assert all(tensor.offset % 32 == 0 for tensor in file.tensors.values())
    assert path.stat().st_size % 32 == 0


def check_tensors(file: GGUFFile, tensors: Sequence[TensorSource]) -> None:
    assert [(t.name, t.shape, t.type) for t in file.tensors.values()] == [
        (t.name, t.shape, t.type) for t in tensors
    ]
    for tensor in tensors:
        written = file.tensors[tensor.name].source()
        assert np.array_equal(written.read(0, tensor.rows), tensor.read(0, tensor.rows))


def test_gguf_py_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    # gguf-py takes neither tensors without elements nor bytes that are not text.
    metadata = {key: value for key, value in METADATA.items() if key != "bytes"}
    tensors = [tensor for tensor in TENSORS if tensor.n_bytes]
    write_gguf(path, metadata, tensors)
    reader = gguf.GGUFReader(path)
    for key, value in metadata.items():
        assert reader.fields[key].contents() == plain(value), key
    assert [t.name for t in reader.tensors] == [t.name for t in tensors]
    for theirs, ours in zip(reader.tensors, tensors, strict=True):
        assert tuple(theirs.shape[::-1].tolist()) == ours.shape
        assert theirs.data.tobytes() == ours.read(0, ours.rows).tobytes()


@pytest.mark.parametrize("order", [gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG])
def test_our_reader_reads_what_gguf_py_writes(tmp_path: Path, order: gguf.GGUFEndian) -> None:
    path = tmp_path / "model.gguf"
    kinds = gguf.GGUFValueType
    dtypes = [np.dtype(code) for code in ("f4", "f2", "f8", "i1", "i2", "i4", "i8")]
    arrays = {dtype: np.arange(60).reshape(3, 20).astype(dtype) for dtype in dtypes}
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    writer.add_string("text", "tä€")
    writer.add_bool("yes", True)
    writer.add_array("strings", ["a", "b", "ß"])
    writer.add_array("bools", [True, False])
    writer.add_array("ints", [1, -2])
    for type, value in LARGEST.items():
        writer.add_key_value(type.label, value, kinds(int(type)))
    for dtype, array in arrays.items():
        writer.add_tensor(dtype.name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile.open(path)
    assert file.byte_order == ("<" if order == gguf.GGUFEndian.LITTLE else ">")
    assert dict(file.metadata) == {
        "general.architecture": "llama", "text": "tä€", "yes": True, "strings": ["a", "b", "ß"],
        "bools": [True, False], "ints": [1, -2], **{type.label: value for type, value in LARGEST.items()},
    }  # fmt: skip
    for dtype, array in arrays.items():
        rows = file.tensors[dtype.name].source().read(0, 3)
        assert rows.tobytes() == array.astype(dtype.newbyteorder("<")).tobytes(), dtype


def test_files_of_llama_cpp_come_out_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    """Reading and writing every file of llama.cpp changes nothing."""
    output = tmp_path / "copy.gguf"
    for path in sorted((shared / "conformance").glob("*/*.gguf")):
        file = GGUFFile.open(path)
        metadata = {key: Typed(value, file.value_types[key]) for key, value in file.metadata.items()}
        write_gguf(output, metadata, [tensor.source() for tensor in file.tensors.values()])
        assert output.read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_alignment_of_the_metadata_is_kept(tmp_path: Path, alignment: int) -> None:
    paths = write_gguf(tmp_path / "m.gguf", {"general.alignment": alignment}, TENSORS, split_max_size=1000)
    assert len(paths) > 1
    file = GGUFFile.open(paths[0])
    check_tensors(file, TENSORS)
    assert all(tensor.offset % alignment == 0 for tensor in file.tensors.values())


# Splits


def test_shards(tmp_path: Path) -> None:
    tensors = [source(f"t{i}", (4, 100)) for i in range(10)]
    paths = write_gguf(tmp_path / "model.gguf", METADATA, tensors, split_max_size=5000)
    count = len(paths)
    assert count > 2
    assert [p.name for p in paths] == [f"model-{i + 1:05d}-of-{count:05d}.gguf" for i in range(count)]
    assert sorted(tmp_path.iterdir()) == paths
    assert all(path.stat().st_size <= 5000 for path in paths)
    check_tensors(GGUFFile.open(paths[0]), tensors)
    for index, path in enumerate(paths):
        fields = gguf.GGUFReader(path).fields
        assert [fields[f"split.{key}"].contents() for key in ("no", "count", "tensors.count")] == [
            index,
            count,
            10,
        ]
        assert [fields[f"split.{key}"].types[0] for key in ("no", "count", "tensors.count")] == [
            gguf.GGUFValueType.UINT16, gguf.GGUFValueType.UINT16, gguf.GGUFValueType.INT32,
        ]  # fmt: skip
        assert ("general.architecture" in fields) == (index == 0)


def test_our_reader_reads_the_shards_of_gguf_py(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", split_max_tensors=2)
    for i in range(5):
        writer.add_tensor(f"t{i}", np.full((2, 8), i, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile.open(tmp_path / "model-00001-of-00003.gguf")
    assert [tensor.data.view("<f4")[0] for tensor in file.tensors.values()] == [0, 1, 2, 3, 4]
    assert file.metadata["general.architecture"] == "llama"


def test_a_large_tensor_has_its_own_shard(tmp_path: Path) -> None:
    tensors = [source("a", (8,)), source("large", (4000,)), source("b", (8,))]
    paths = write_gguf(tmp_path / "m.gguf", {}, tensors, split_max_size=1000)
    assert [list(gguf.GGUFReader(path).tensors[0].name) for path in paths] == [["a"], list("large"), ["b"]]


def test_what_fits_is_not_split(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    assert write_gguf(path, METADATA, TENSORS, split_max_size=1 << 20) == [path]
    assert "split.count" not in GGUFFile.open(path).metadata


def test_joining_shards(tmp_path: Path) -> None:
    paths = write_gguf(tmp_path / "m.gguf", METADATA, TENSORS, split_max_size=2000)
    file = GGUFFile.open(paths[0])
    metadata = {key: Typed(value, file.value_types[key]) for key, value in file.metadata.items()}
    (joined,) = write_gguf(tmp_path / "joined.gguf", metadata, [t.source() for t in file.tensors.values()])
    (whole,) = write_gguf(tmp_path / "whole.gguf", METADATA, TENSORS)
    assert joined.read_bytes() == whole.read_bytes()


# Streaming


def test_rows_are_asked_for_in_slabs(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []
    told: list[tuple[str, int]] = []

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        asked.append((start, stop))
        return np.zeros((stop - start, 1 << 20), np.uint8)

    tensor = TensorSource("wide", (3, 3, 1 << 18), GGMLType.F32, read)
    write_gguf(tmp_path / "m.gguf", {}, [tensor], on_progress=lambda t, n: told.append((t.name, n)))
    assert asked == [(0, 4), (4, 8), (8, 9)]
    assert told == [("wide", 4 << 20), ("wide", 4 << 20), ("wide", 1 << 20)]


def test_rows_may_be_views_with_strides(tmp_path: Path) -> None:
    data = np.arange(64, dtype=np.uint8).reshape(4, 16)
    tensor = TensorSource("t", (4, 8), GGMLType.I8, lambda start, stop: data[start:stop, ::2])
    (path,) = write_gguf(tmp_path / "m.gguf", {}, [tensor])
    assert GGUFFile.open(path).tensors["t"].data.tolist() == data[:, ::2].reshape(-1).tolist()


def test_header_of_a_hand_checked_file(tmp_path: Path) -> None:
    tensor = TensorSource(
        "ab", (2, 3), GGMLType.I8, lambda start, stop: np.full((stop - start, 3), 7, np.uint8)
    )
    (path,) = write_gguf(tmp_path / "m.gguf", {"k": 5}, [tensor])
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q1sII", 1, b"k", 4, 5)
    header += struct.pack("<Q2sI2QIQ", 2, b"ab", 2, 3, 2, 24, 0)
    assert path.read_bytes() == header.ljust(-(-len(header) // 32) * 32, b"\0") + (b"\7" * 6).ljust(32, b"\0")


def test_the_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("old")
    write_gguf(path, {}, TENSORS)
    check_tensors(GGUFFile.open(path), TENSORS)


def test_a_file_may_be_rewritten_from_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, {}, TENSORS)
    tensors = [tensor.source() for tensor in GGUFFile.open(path).tensors.values()]
    write_gguf(path, {"new": 1}, tensors)
    check_tensors(GGUFFile.open(path), TENSORS)
