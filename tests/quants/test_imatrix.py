"""Importance matrices: both forms of file, what they say of a tensor, what is refused."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.gguf.writer import write_gguf
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.imatrix_file import ImatrixFile

Floats = NDArray[np.float32]


def tensor(name: str, values: Any) -> TensorSource:
    x = np.atleast_1d(np.asarray(values, np.float32))
    rows = x.reshape(-1, x.shape[-1])
    return TensorSource(name, x.shape, GGMLType.F32, lambda start, stop: rows[start:stop].view(np.uint8))


def write(path: Path, tensors: Mapping[str, Any], **metadata: Value | Typed) -> Path:
    """A GGUF imatrix with these tensors."""
    entries: dict[str, Value | Typed] = {"general.type": "imatrix", "imatrix.datasets": ["text.txt", "other"]}
    entries |= {"imatrix.chunk_count": 7} | {key.replace("_", ".", 1): v for key, v in metadata.items()}
    write_gguf(path, entries, [tensor(name, values) for name, values in tensors.items()])
    return path


def legacy(entries: Mapping[str, tuple[int, list[float]]], tail: bytes = b"") -> bytes:
    data = struct.pack("<i", len(entries))
    for name, (calls, sums) in entries.items():
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(sums))
        data += np.array(sums, "<f4").tobytes()
    return data + tail


TENSORS = {
    "a.weight.in_sum2": [2.0, 4.0, 8.0],
    "a.weight.counts": [2.0],
    "e.weight.in_sum2": [[3.0, 6.0], [1.0, 1.0], [5.0, 10.0]],
    "e.weight.counts": [[3.0], [0.0], [5.0]],
}


def test_gguf(tmp_path: Path) -> None:
    matrix = ImportanceMatrix.read(write(tmp_path / "m.gguf", TENSORS))
    assert list(matrix.entries) == ["a.weight", "e.weight"]
    assert matrix.weights("a.weight", (5, 3)) == pytest.approx([1, 2, 4])
    # The text never reached the second expert.
    experts = matrix.weights("e.weight", (3, 9, 2))
    assert experts is not None and experts.tolist() == [[1, 2], [1, 1], [1, 2]]
    assert matrix.weights("b.weight", (5, 3)) is None
    assert matrix.metadata() == {
        "quantize.imatrix.file": str(tmp_path / "m.gguf"),
        "quantize.imatrix.dataset": "text.txt",
        "quantize.imatrix.entries_count": Typed(2, ValueType.U32),
        "quantize.imatrix.chunks_count": Typed(7, ValueType.U32),
    }


def test_legacy(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    entries = {"a.weight": (2, [2.0, 4.0]), "b.weight": (0, [3.0, 5.0])}
    path.write_bytes(legacy(entries, struct.pack("<ii", 9, 8) + b"text.txt"))
    matrix = ImportanceMatrix.read(path)
    assert {name: values.tolist() for name, values in matrix.entries.items()} == {
        "a.weight": [1, 2],
        "b.weight": [3, 5],
    }
    assert (matrix.chunks, matrix.dataset) == (9, "text.txt")
    path.write_bytes(legacy(entries))
    assert "quantize.imatrix.dataset" not in ImportanceMatrix.read(path).metadata()


def test_llama_cpp_s_files(shared: Path) -> None:
    for name, count, chunks in (("eval/imatrix.gguf", 56, 100), ("quants/imatrix.gguf", 16, 16)):
        matrix = ImportanceMatrix.read(shared / "conformance" / name)
        assert (len(matrix.entries), matrix.chunks) == (count, chunks)
        assert all((values >= 0).all() for values in matrix.entries.values())


def test_some_entries_only(tmp_path: Path) -> None:
    matrix = ImportanceMatrix.read(write(tmp_path / "m.gguf", TENSORS))
    assert list(matrix.only(["a.w", "x"], []).entries) == ["a.weight"]
    assert list(matrix.only([], ["a.w", "x"]).entries) == ["e.weight"]
    assert list(matrix.only([], []).entries) == ["a.weight", "e.weight"]
    with pytest.raises(FormatError, match="of its 2 entries, none is included"):
        matrix.only(["x"], [])


def test_long_texts_are_clipped(tmp_path: Path) -> None:
    matrix = ImportanceMatrix.read(write(tmp_path / "m.gguf", TENSORS, imatrix_datasets=["ä" * 100]))
    assert matrix.metadata()["quantize.imatrix.dataset"] == "ä" * 63


def test_the_matrix_of_another_model(tmp_path: Path) -> None:
    matrix = ImportanceMatrix.read(write(tmp_path / "m.gguf", TENSORS))
    matrix.check_model(["a.weight", "b.weight"])
    with pytest.raises(
        FormatError, match=r"no entry for any tensor .* such as 'a.weight'; it is the matrix of"
    ):
        matrix.check_model(["b.weight"])
    with pytest.raises(
        FormatError, match=r"has 3 values for tensor 'a.weight', which needs 4; it is the matrix"
    ):
        matrix.weights("a.weight", (3, 4))
    with pytest.raises(FormatError, match=r"has 6 values for tensor 'e.weight', which needs 2"):
        matrix.weights("e.weight", (9, 2))


def test_an_embedding_of_another_length_is_ignored(tmp_path: Path) -> None:
    tensors = {"token_embd.weight.in_sum2": [1.0, 2.0], "token_embd.weight.counts": [1.0]}
    matrix = ImportanceMatrix.read(write(tmp_path / "m.gguf", tensors))
    assert matrix.weights("token_embd.weight", (9, 3)) is None
    assert matrix.weights("token_embd.weight", (9, 2)) is not None


SUMS, COUNTS = "a.weight.in_sum2", "a.weight.counts"
BAD_TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "holds no tensor's importance"),
    "no counts": ({SUMS: [1.0]}, "tensor 'a.weight' lacks sums and counts in f32"),
    "NaN": ({SUMS: [1.0, np.nan], COUNTS: [1.0]}, "importance of tensor 'a.weight' has NaN, Inf or negative"),
    "infinite": (
        {SUMS: [1.0, 3e38], COUNTS: [0.1]},
        "importance of tensor 'a.weight' has NaN, Inf or negative",
    ),
    "negative": (
        {SUMS: [1.0, -1.0], COUNTS: [1.0]},
        "importance of tensor 'a.weight' has NaN, Inf or negative",
    ),
    "counts": ({SUMS: [1.0], COUNTS: [np.nan]}, "importance of tensor 'a.weight' has NaN, Inf or negative"),
    "beyond f32 if added": ({SUMS: [3e38], COUNTS: [1e9]}, r"or some above 1e\+25; make it anew"),
    "two counts": ({SUMS: [1.0, 2.0], COUNTS: [1.0, 1.0]}, "has 2 sums and 2 counts"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_gguf(tmp_path: Path, case: str) -> None:
    tensors, problem = BAD_TENSORS[case]
    with pytest.raises(FormatError, match=problem) as caught:
        ImatrixFile.read(write(tmp_path / "m.gguf", tensors))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_model_is_no_matrix(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", TENSORS, general_type="model")
    with pytest.raises(FormatError, match="is a model, not an importance matrix"):
        ImportanceMatrix.read(path)
    with pytest.raises(FileNotFoundError):
        ImportanceMatrix.read(tmp_path / "absent")


WHOLE = legacy({"a.weight": (2, [2.0, 4.0])}, struct.pack("<ii", 9, 8) + b"text.txt")


@pytest.mark.parametrize("length", [*range(len(WHOLE) - 16), *range(len(WHOLE) - 15, len(WHOLE))])
def test_legacy_cut_off(tmp_path: Path, length: int) -> None:
    (tmp_path / "m.dat").write_bytes(WHOLE[:length])
    with pytest.raises(FormatError, match=f"cut off after {length} bytes"):
        ImportanceMatrix.read(tmp_path / "m.dat")


def test_legacy_nonsense(tmp_path: Path) -> None:
    (tmp_path / "m.dat").write_bytes(legacy({"a.weight": (2, [])}))
    with pytest.raises(FormatError, match=r"tensor 'a.weight' has no numbers"):
        ImatrixFile.read(tmp_path / "m.dat")
    (tmp_path / "m.dat").write_bytes(b"\xff" * 64)
    with pytest.raises(FormatError, match="a length in it is -1"):
        ImportanceMatrix.read(tmp_path / "m.dat")
    (tmp_path / "m.dat").write_bytes(b"\x7f" * 64)
    with pytest.raises(FormatError, match="cut off after 64 bytes"):
        ImportanceMatrix.read(tmp_path / "m.dat")


def test_a_file_is_let_go(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", TENSORS)
    matrix = ImportanceMatrix.read(path)
    path.unlink()
    assert matrix.entries["a.weight"].sum() == 7
    with pytest.raises(FileNotFoundError):
        GGUFFile.open(path)
