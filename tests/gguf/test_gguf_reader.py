"""The GGUF reader: what it reads, and that gguf-py reads the same."""

import struct
import time
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf_bytes import gguf_bytes, small_file, tensor, u32, write

from ggufpy.gguf import metadata as metadata_module
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.strings import Strings
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import ValueType

BOTH_ORDERS = pytest.mark.parametrize("order", ["<", ">"])


@BOTH_ORDERS
@pytest.mark.parametrize("version", [2, 3])
def test_values_of_every_type(tmp_path: Path, order: str, version: int) -> None:
    data = bytearray(small_file(order))
    data[4:8] = struct.pack(order + "I", version)
    with GGUFFile.open(write(tmp_path, bytes(data))) as file:
        assert (file.version, file.byte_order) == (version, order)
        assert dict(file.metadata) == {
            "general.architecture": "llama",
            "words": ["a", "", "ä€", "\udcff\udcfe"],
            "flags": [True, False, True],
            "shorts": [-1, 2],
            "scores": [0.5, -2.0],
            "nothing": [],
            "u8": 200, "i8": -100, "u16": 60000, "i16": -30000, "u32": 1 << 31, "i32": -5,
            "u64": 1 << 63, "i64": -1 << 63, "f32": 0.25, "f64": 0.1, "yes": True, "no": False,
        }  # fmt: skip
        assert file.metadata["yes"] is True and type(file.metadata["flags"][0]) is bool  # type: ignore[index]
        assert file.value_types["words"] is ValueType.STRING and file.value_types["i8"] is ValueType.I8
        assert list(file.tensors) == ["a.weight", "b.weight"]
        a = file.tensors["a.weight"]
        assert (a.shape, a.type, a.data.nbytes, a.offset % 32) == ((2, 3), GGMLType.F32, 24, 0)
        assert not a.data.flags.writeable
        source = a.source()
        assert (source.rows, source.columns) == (2, 3)
        assert source.read(0, 2).view("<f4").tolist() == [[0, 1, 2], [3, 4, 5]]
        assert source.read(1, 2).view("<f4").tolist() == [[3, 4, 5]]


def test_strings_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    with GGUFFile.open(write(tmp_path, small_file())) as file:
        word = file.metadata["words"][3]  # type: ignore[index]
        assert isinstance(word, str) and word.encode("utf-8", "surrogateescape") == b"\xff\xfe"


def test_arrays_are_decoded_when_asked_for_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = metadata_module._Array.decode

    def spy(array: metadata_module._Array) -> Any:
        decoded.append(array.count)
        return decode(array)

    monkeypatch.setattr(metadata_module._Array, "decode", spy)
    with GGUFFile.open(write(tmp_path, small_file())) as file:
        assert "words" in file.metadata and file.metadata["u8"] == 200 and len(file.metadata) == 18
        assert file.metadata.strings("words") is not None
        assert decoded == []
        assert file.metadata["words"] is not file.metadata["words"]
        assert decoded == [4, 4]


def test_strings_that_are_not_decoded(tmp_path: Path) -> None:
    with GGUFFile.open(write(tmp_path, small_file())) as file:
        words = file.metadata["words"]
        strings = file.metadata.strings("words")
        assert file.metadata.strings("u8") is None and file.metadata.strings("flags") is None
        assert file.metadata.strings("no such key") is None
    assert isinstance(words, list) and strings is not None
    assert list(strings) == words == strings[:] and len(strings) == 4
    assert (strings[-1], strings[1:3], strings.index("a")) == (words[-1], words[1:3], 0)
    assert list(Strings.of(strings)) == words
    with pytest.raises(IndexError):
        strings[4]


def test_after_closing(tmp_path: Path) -> None:
    with GGUFFile.open(write(tmp_path, small_file())) as file:
        data = file.tensors["b.weight"].data
    assert file.tensors == {} and data.view("<f4").tolist() == [1.0] * 8
    assert "flags" in file.metadata and file.metadata["u8"] == 200
    with pytest.raises(ValueError, match="'flags' is an array, and its file was closed"):
        file.metadata["flags"]


def test_closing_ends_the_mapping(tmp_path: Path) -> None:
    path = write(tmp_path, small_file())
    file = GGUFFile.open(path)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc to see mappings in")
    assert str(path) in maps.read_text()
    file.close()
    assert str(path) not in maps.read_text()


def test_metadata_alone(tmp_path: Path) -> None:
    file = GGUFFile.open(write(tmp_path, gguf_bytes([u32("a", 1)])))
    assert dict(file.metadata) == {"a": 1} and not file.tensors


def test_nothing_in_it(tmp_path: Path) -> None:
    file = GGUFFile.open(write(tmp_path, gguf_bytes()))
    assert not file.metadata and not file.tensors


def test_tensors_without_elements_or_dimensions(tmp_path: Path) -> None:
    shapes = [[0], [32, 0], [0, 1 << 60], [1 << 60, 0], []]
    tensors = [tensor(str(i), ne, GGMLType.F32) for i, ne in enumerate(shapes)]
    file = GGUFFile.open(write(tmp_path, gguf_bytes([], tensors, bytes(32))))
    assert [t.shape for t in file.tensors.values()] == [(0,), (0, 32), (1 << 60, 0), (0, 1 << 60), (1,)]
    assert [t.data.nbytes for t in file.tensors.values()] == [0, 0, 0, 0, 4]
    assert [t.source().n_bytes for t in file.tensors.values()] == [0, 0, 0, 0, 4]


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
def test_custom_alignment(tmp_path: Path, alignment: int) -> None:
    second = -(-4 // alignment) * alignment
    data = (b"\1\0\0\0".ljust(second, b"\0") + b"\2\0\0\0").ljust(2 * second, b"\0")
    tensors = [tensor("a", [1], GGMLType.I32), tensor("b", [1], GGMLType.I32, second)]
    entries = [u32("general.alignment", alignment)]
    file = GGUFFile.open(write(tmp_path, gguf_bytes(entries, tensors, data, alignment=alignment)))
    assert [t.data.view("<i4").tolist() for t in file.tensors.values()] == [[1], [2]]
    assert all(t.offset % alignment == 0 for t in file.tensors.values())


def test_longest_name_and_missing_final_padding(tmp_path: Path) -> None:
    file = GGUFFile.open(write(tmp_path, gguf_bytes([], [tensor("n" * 63, [1])], b"\0\0\x80\x3f")))
    assert file.tensors["n" * 63].data.view("<f4").tolist() == [1.0]


# gguf-py's reader takes seconds for each of the larger vocabularies.
ORACLE_LIMIT = 750_000


def test_same_as_gguf_py(shared: Path) -> None:
    """Every file of llama.cpp opens and holds what gguf-py reads from it."""
    known = set(map(int, gguf.GGMLQuantizationType))
    compared = 0
    for path in sorted((shared / "conformance").glob("*/*.gguf")):
        ours = GGUFFile.open(path)
        large = path.parent.name == "vocab" and path.stat().st_size > ORACLE_LIMIT
        if not large and known.issuperset(t.type for t in ours.tensors.values()):
            check_same(ours, gguf.GGUFReader(path))
            compared += 1
    assert compared > 75


def check_same(ours: GGUFFile, theirs: gguf.GGUFReader) -> None:
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields), ours.path
    for key, field in fields.items():
        assert ours.metadata[key] == field.contents(), (ours.path, key)
        # gguf-py does not say what an empty array would hold.
        if field.contents() != []:
            assert int(ours.value_types[key]) == int(field.types[-1]), (ours.path, key)
    assert list(ours.tensors) == [info.name for info in theirs.tensors]
    for info, expected in zip(ours.tensors.values(), theirs.tensors, strict=True):
        assert list(info.shape) == expected.shape[::-1].tolist()
        assert int(info.type) == int(expected.tensor_type)
        assert (info.offset, info.data.nbytes) == (expected.data_offset, expected.n_bytes)


def test_opening_a_large_vocabulary_is_quick(shared: Path) -> None:
    path = shared / "conformance" / "vocab" / "ggml-vocab-llama-bpe.gguf"
    times = []
    for _ in range(5):
        start = time.perf_counter()
        GGUFFile.open(path)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2
