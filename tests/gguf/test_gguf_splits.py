"""Models split over several files: opened from the first, refused if anything does not fit."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf_bytes import ARRAY, I32, STRING, U16, U32, array, entry, gguf_bytes, string, tensor, u32, write

from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.splits import shard_path


def shards(folder: Path, names: list[list[str]], **changes: int) -> list[Path]:
    """Shards with small tensors of these names; changes: other values for no, count or total."""
    paths = []
    for index, group in enumerate(names):
        entries = [
            entry("split.no", U16, struct.pack("<H", changes.get("no", index) if index else index)),
            entry("split.count", U16, struct.pack("<H", changes.get("count", len(names)))),
            entry("split.tensors.count", I32, struct.pack("<i", changes.get("total", sum(map(len, names))))),
        ]
        entries += [u32("only.first", 7)] if index == 0 else []
        tensors = [tensor(name, [8], 0, 32 * i) for i, name in enumerate(group)]
        data = b"".join(np.full(8, ord(name), "<f4").tobytes() for name in group)
        path = shard_path(folder / "model.gguf", index, len(names))
        path.write_bytes(gguf_bytes(entries, tensors, data))
        paths.append(path)
    return paths


def test_split_files(tmp_path: Path) -> None:
    paths = shards(tmp_path, [["a", "b"], ["c"], ["d"]])
    assert paths[1].name == "model-00002-of-00003.gguf"
    with GGUFFile.open(paths[0]) as file:
        assert file.metadata["only.first"] == 7 and file.metadata["split.count"] == 3
        assert "".join(file.tensors) == "abcd"
        assert [t.data.view("<f4")[0] for t in file.tensors.values()] == [97, 98, 99, 100]
        assert [t.file for t in file.tensors.values()] == [paths[0], paths[0], paths[1], paths[2]]


def test_a_single_shard_is_a_whole_file(tmp_path: Path) -> None:
    (path,) = shards(tmp_path, [["a"]])
    assert list(GGUFFile.open(path.rename(tmp_path / "any name.gguf")).tensors) == ["a"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"no": 2}, "says that it is shard 3 of 2, its name says 2 of 2"),
        ({"count": 65535}, "does not end in '-00001-of-65535.gguf'"),
        ({"total": 3}, "have 2 tensors together, not 3"),
        ({"total": -1}, "have 2 tensors together, not -1"),
    ],
)
def test_shards_that_disagree(tmp_path: Path, changes: dict[str, int], problem: str) -> None:
    first, _ = shards(tmp_path, [["a"], ["b"]], **changes)
    with pytest.raises(FormatError, match=re.escape(problem)):
        GGUFFile.open(first)


def test_missing_damaged_and_foreign_shards(tmp_path: Path) -> None:
    first, second, third = shards(tmp_path, [["a"], ["b"], ["c"]])
    with pytest.raises(FormatError, match="is shard 2 of 3, the metadata is in the first; open that one"):
        GGUFFile.open(second)
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    with pytest.raises(FormatError, match=r"00002-of-00003.gguf: tensor data ends at"):
        GGUFFile.open(first)
    second.write_bytes(third.read_bytes())
    with pytest.raises(FormatError, match=r"00002-of-00003.gguf: says that it is shard 3"):
        GGUFFile.open(first)
    second.write_bytes(gguf_bytes([u32("a", 1)]))
    with pytest.raises(FormatError, match=r"00002-of-00003.gguf: split.no is missing"):
        GGUFFile.open(first)
    second.unlink()
    with pytest.raises(FormatError, match=r"00002-of-00003.gguf: shard 2 of 3 is missing"):
        GGUFFile.open(first)
    first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(FormatError, match=r"does not end in '-00001-of-00003.gguf'"):
        GGUFFile.open(tmp_path / "renamed.gguf")


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    first, _ = shards(tmp_path, [["a", "b"], ["b"]])
    with pytest.raises(FormatError, match=r"tensor 'b' is in model-00001-of-00002.gguf too"):
        GGUFFile.open(first)


@pytest.mark.parametrize("type", [U32, STRING, ARRAY])
def test_split_keys_of_other_types(tmp_path: Path, type: int) -> None:
    payload = {U32: struct.pack("<I", 2), STRING: string("2"), ARRAY: array(U16, 1, struct.pack("<H", 2))}[
        type
    ]
    path = write(tmp_path, gguf_bytes([entry("split.count", type, payload)]), "m-00001-of-00002.gguf")
    with pytest.raises(FormatError, match=r"split.count is .*, not a u16"):
        GGUFFile.open(path)
