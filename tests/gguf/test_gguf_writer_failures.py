"""When writing a GGUF file fails: one clear line, nothing left behind, the old file untouched."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from ggufpy.errors import FormatError, ShapeError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, ValueType
from ggufpy.gguf.writer import write_gguf


def source(name: str, shape: tuple[int, ...]) -> TensorSource:
    """A tensor of zeros."""
    n_bytes = 4 * shape[-1]
    return TensorSource(
        name, shape, GGMLType.F32, lambda start, stop: np.zeros((stop - start, n_bytes), np.uint8)
    )


def failing(name: str, error: BaseException, after: int = 1) -> TensorSource:
    """A tensor whose rows stop coming."""

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        if start >= after:
            raise error
        return np.zeros((stop - start, 4 << 20), np.uint8)

    return TensorSource(name, (4, 1 << 20), GGMLType.F32, read)


TENSORS = [source("a", (8,)), source("b", (3, 5))]

WRONG_ROWS: dict[str, Callable[[int, int], NDArray[np.uint8]]] = {
    "too few": lambda start, stop: np.zeros((stop - start - 1, 32), np.uint8),
    "too narrow": lambda start, stop: np.zeros((stop - start, 31), np.uint8),
    "flat": lambda start, stop: np.zeros((stop - start) * 32, np.uint8),
    "floats": lambda start, stop: np.zeros((stop - start, 32), np.float32),
}


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_rows_of_a_wrong_shape(tmp_path: Path, case: str) -> None:
    tensor = TensorSource("blk.0.ffn_up.weight", (4, 8), GGMLType.F32, WRONG_ROWS[case])
    with pytest.raises(ShapeError, match=r"^tensor 'blk.0.ffn_up.weight': rows 0 to 4 came as .*; "):
        write_gguf(tmp_path / "m.gguf", {}, [tensor])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no"), OSError("gone")], ids=repr)
@pytest.mark.parametrize("split", [None, 1 << 20])
def test_nothing_is_left_and_the_old_file_untouched(
    tmp_path: Path, error: BaseException, split: int | None
) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("old")
    with pytest.raises(type(error)):
        write_gguf(path, {}, [source("a", (8,)), failing("b", error)], split_max_size=split)
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"


def test_interrupted_by_the_progress_bar(tmp_path: Path) -> None:
    def interrupt(tensor: TensorSource, n_bytes: int) -> None:
        assert [p.name[:8] for p in tmp_path.iterdir()] == [".ggufpy-"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(tmp_path / "m.gguf", {}, TENSORS, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"^.*m\.gguf: takes 4,064 bytes, the disk has 1,000 free; make room"):
        write_gguf(tmp_path / "m.gguf", {}, [source("t", (1000,))])
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing: no such folder; create it first$"):
        write_gguf(tmp_path / "missing" / "m.gguf", {}, TENSORS)
    with pytest.raises(FileExistsError, match="is there and not a regular file; choose"):
        write_gguf(tmp_path, {}, TENSORS)
    with pytest.raises(FileExistsError, match="/dev/null: is there and not a regular file; choose"):
        write_gguf(Path("/dev/null"), {}, TENSORS)


BAD_METADATA: dict[str, tuple[str, object, str]] = {
    "no key": ("", 1, "has 0 bytes"),
    "long key": ("k" * 65536, 1, "has 65536 bytes"),
    "key of no text": ("\ud800", 1, "is not Unicode text"),
    "negative": ("k", -1, "-1 is not u32"),
    "large": ("k", 1 << 32, "4294967296 is not u32"),
    "large in a list": ("k", [1 << 31], "is not i32"),
    "large float": ("k", 1e39, "is not f32"),
    "float for an int": ("k", Typed(1.5, ValueType.I32), "1.5 is not i32"),
    "text for an int": ("k", Typed("1", ValueType.I32), "'1' is not i32"),
    "int for a text": ("k", Typed(1, ValueType.STRING), "1 is not string"),
    "int for a bool": ("k", Typed(1, ValueType.BOOL), "1 is not bool"),
    "an array of arrays": ("k", Typed([1], ValueType.ARRAY), "no arrays of arrays"),
    "mixed": ("k", [1, "a"], "no type fits [1, 'a']"),
    "ints and bools": ("k", [1, True], "no type fits"),
    "nothing": ("k", [], "no type fits []"),
    "none": ("k", None, "no type fits None"),
    "a dict": ("k", {}, "no type fits {}"),
    "lone surrogate": ("k", "\ud800", "is not string"),
    "alignment 0": ("general.alignment", 0, ") is not a power of two"),
    "alignment 24": ("general.alignment", 24, ") is not a power of two"),
    "alignment u64": ("general.alignment", Typed(32, ValueType.U64), ") is not a power of two"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_bad_metadata(tmp_path: Path, case: str) -> None:
    key, value, problem = BAD_METADATA[case]
    with pytest.raises(FormatError) as caught:
        write_gguf(tmp_path / "m.gguf", {key: value}, [])  # type: ignore[dict-item]
    message = str(caught.value)
    assert problem in message and "; " in message and "\n" not in message
    assert list(tmp_path.iterdir()) == []


BAD_TENSORS: dict[str, tuple[list[TensorSource], str]] = {
    "name of 64 bytes": ([source("n" * 64, (1,))], "its name has 64 bytes"),
    "name of 64 bytes in UTF-8": ([source("€" * 21 + "n", (1,))], "its name has 64 bytes"),
    "no name": ([source("", (1,))], "its name has 0 bytes"),
    "name twice": ([source("n", (1,)), source("n", (2,))], "'n' is there twice"),
    "5 dimensions": ([source("n", (1,) * 5)], "has shape (1, 1, 1, 1, 1)"),
    "half a block": (
        [TensorSource("n", (2, 16), GGMLType.Q4_0, source("n", (1,)).read)],
        "'n': a row of 16 does not divide into q4_0 blocks",
    ),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors(tmp_path: Path, case: str) -> None:
    tensors, problem = BAD_TENSORS[case]
    with pytest.raises((FormatError, ShapeError)) as caught:
        write_gguf(tmp_path / "m.gguf", {}, tensors)
    assert problem in str(caught.value) and "; " in str(caught.value)
    assert list(tmp_path.iterdir()) == []
