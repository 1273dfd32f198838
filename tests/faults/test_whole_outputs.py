"""Outputs are whole, whatever fails, whoever is killed, whoever else writes; and never cost an input."""

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_llama
from numpy.typing import NDArray

from ggufpy import convert_checkpoint
from ggufpy.errors import FormatError
from ggufpy.gguf import outputs
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.writer import write_gguf
from ggufpy.quants.file import quantize_file

SHARDS = [1, 2, 1]


def tensors(value: int) -> list[TensorSource]:
    """Four tensors full of `value`."""

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        return np.full((stop - start, 256), value, np.uint8)

    return [TensorSource(name, (300, 64), GGMLType.F32, read) for name in "abcd"]


def write(folder: Path, value: int, shards: list[int] | None) -> None:
    write_gguf(folder / "m.gguf", {"general.name": str(value)}, tensors(value), shards=shards)


def value_of(folder: Path) -> int:
    """The value that all tensors of the model in `folder` are full of."""
    [first] = [path for path in folder.glob("m*.gguf") if "-0000" not in path.name or "-00001-" in path.name]
    with GGUFFile.open(first) as file:
        values = {int(x) for tensor in file.tensors.values() for x in np.unique(tensor.data)}
        [value] = values
        assert file.metadata["general.name"] == str(value)
        return value


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Failing:
    """Calls `fail` at the n-th call of what writes files: open, write, fsync, rename, link, chmod."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, fail: Callable[[str], object]) -> None:
        self.calls = 0
        self._n, self._fail = n, fail
        for name in ("fsync", "replace", "link", "fchmod", "fchown"):
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        monkeypatch.setattr(outputs, "open", self._wrapped("open", self._open), raising=False)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._n:
                self._fail(name)
            return function(*arguments, **options)

        return call

    def _open(self, path: Path, mode: str, opener: Any = None) -> Any:
        stream = open(path, mode, opener=opener)  # noqa: SIM115
        wrapped = self._wrapped

        class Stream:
            """What is written fails too, at a write or when it is flushed."""

            write = staticmethod(wrapped("write", stream.write))
            flush = staticmethod(wrapped("flush", stream.flush))
            fileno = staticmethod(stream.fileno)
            close = staticmethod(stream.close)

            def __enter__(self) -> Any:
                return stream

            def __exit__(self, *exception: object) -> None:
                stream.close()

        return Stream()


def no_space(name: str) -> None:
    raise OSError(errno.ENOSPC, f"no space left at {name}")


@pytest.mark.parametrize("shards", [None, SHARDS])
@pytest.mark.parametrize("is_new", [False, True])
def test_each_call_may_fail(shards: list[int] | None, is_new: bool, tmp_path: Path) -> None:
    if not is_new:
        write(tmp_path, 1, shards)
    before = contents(tmp_path)
    for n in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, n, no_space)
            try:
                write(tmp_path, 2, shards)
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
                failed = True
            else:
                failed = False
        if failing.calls < n:
            break
        if failed:  # what cannot be kept may fail: the second name, the owner
            assert contents(tmp_path) == before, n
        else:
            assert value_of(tmp_path) == 2
            assert not list(tmp_path.glob(".*"))
            for path in tmp_path.iterdir():
                path.unlink()
            for name, data in before.items():
                (tmp_path / name).write_bytes(data)
    assert n > 10
    assert value_of(tmp_path) == 2


@pytest.mark.parametrize("shards", [None, SHARDS])
def test_killed_at_each_call(shards: list[int] | None, tmp_path: Path) -> None:
    write(tmp_path, 1, shards)
    for n in itertools.count(1):
        if (child := os.fork()) == 0:
            with pytest.MonkeyPatch.context() as patch:
                failing = Failing(patch, n, lambda name: os._exit(1))
                write(tmp_path, 2, shards)
                os._exit(0 if failing.calls < n else 2)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 1)
        try:
            assert value_of(tmp_path) in (1, 2)
        except FormatError as exc:  # killed between two names
            assert shards and "another writing" in str(exc)
        write(tmp_path, 1, shards)
        assert value_of(tmp_path) == 1
        assert not list(tmp_path.glob(".*"))
        if status == 0:
            break
    assert n > 10


@pytest.mark.parametrize("shards", [None, SHARDS])
def test_many_writers_of_one_name(shards: list[int] | None, tmp_path: Path) -> None:
    children = []
    for value in range(1, 4):
        if (child := os.fork()) == 0:
            for _ in range(5):
                write(tmp_path, value, shards)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert value_of(tmp_path) in (1, 2, 3)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda value: write(tmp_path, value, shards), range(4, 9)))
    assert value_of(tmp_path) in range(4, 9)
    assert not list(tmp_path.glob(".*"))


def test_shards_of_two_writings(tmp_path: Path) -> None:
    write(tmp_path, 1, SHARDS)
    [second] = tmp_path.glob("*-00002-*")
    kept = second.read_bytes()
    write(tmp_path, 2, SHARDS)
    second.write_bytes(kept)
    with pytest.raises(FormatError, match=r"m-00002-of-00003\.gguf: belongs to another writing"):
        value_of(tmp_path)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_permissions_stay(mode: int, tmp_path: Path) -> None:
    write(tmp_path, 1, None)
    (tmp_path / "m.gguf").chmod(mode)
    write(tmp_path, 2, None)
    assert stat.S_IMODE((tmp_path / "m.gguf").stat().st_mode) == mode
    assert value_of(tmp_path) == 2


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write(tmp_path, 1, None)
    assert (tmp_path / "m.gguf").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("is_there", [True, False])
def test_a_links_target_is_replaced(is_there: bool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.gguf"
    if is_there:
        target.write_bytes(b"old")
    (tmp_path / "m.gguf").symlink_to(target)
    write(tmp_path, 3, None)
    assert (tmp_path / "m.gguf").is_symlink()
    assert not target.is_symlink()
    assert value_of(tmp_path) == 3


@pytest.mark.parametrize(
    "name", ["a" * 250 + ".gguf", os.fsdecode(b"\xff\xfe \n.gguf"), "-", " .gguf", "ü[*].gguf"]
)
def test_any_name(name: str, tmp_path: Path) -> None:
    for value in (1, 2):
        write_gguf(tmp_path / name, {}, tensors(value))
    assert os.listdir(tmp_path) == [name]


# ---- Inputs ----


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    path = tmp_path / "matrix.gguf"
    ones = np.ones((1, random_llama.WIDTH), np.float32)

    def read_ones(start: int, stop: int) -> NDArray[np.uint8]:
        return ones[start:stop].view(np.uint8)

    def read_one(start: int, stop: int) -> NDArray[np.uint8]:
        return np.ones((1, 1), np.float32).view(np.uint8)

    name = "blk.0.attn_q.weight"
    sums = TensorSource(f"{name}.in_sum2", ones.shape, GGMLType.F32, read_ones)
    count = TensorSource(f"{name}.counts", (1, 1), GGMLType.F32, read_one)
    write_gguf(path, {"general.type": "imatrix"}, [sums, count])
    return path


def other_names(path: Path, folder: Path) -> Iterator[Path]:
    """The same file by other names."""
    yield path
    yield path.parent / ".." / path.parent.name / path.name
    (folder / "soft").symlink_to(path)
    yield folder / "soft"
    (folder / "soft2").symlink_to(folder / "soft")
    yield folder / "soft2"
    os.link(path, folder / "hard")
    yield folder / "hard"


def test_quantizing_never_costs_an_input(small: Path, matrix: Path, tmp_path: Path) -> None:
    for i, source in enumerate((small, matrix)):
        (folder := tmp_path / str(i)).mkdir()
        before = source.read_bytes()
        for name in other_names(source, folder):
            with pytest.raises(FormatError, match="which is read; write to another name"):
                quantize_file(small, name, "q8_0", imatrix=matrix)
        assert source.read_bytes() == before


def test_converting_never_costs_an_input(shipped_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in shipped_checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (more := folder / "additional_chat_templates").mkdir()
    (more / "tools.jinja").write_text("{{ tools }}")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    before = {path: path.read_bytes() for path in paths}
    for i, path in enumerate(paths):
        (tmp_path / str(i)).mkdir()
        for name in other_names(path, tmp_path / str(i)):
            with pytest.raises(FormatError, match="which is read; write to another name"):
                convert_checkpoint(folder, name)
    assert {path: path.read_bytes() for path in paths} == before


def test_a_source_that_changes(small: Path, tmp_path: Path) -> None:
    def rewrite(tensor: TensorSource, n_bytes: int) -> None:
        os.utime(small, ns=(0, 12345))

    def replace(tensor: TensorSource, n_bytes: int) -> None:
        (copy := tmp_path / "copy").write_bytes(small.read_bytes())
        copy.replace(small)

    for change in (rewrite, replace):
        with pytest.raises(FormatError, match="was changed while it was read"):
            quantize_file(small, tmp_path / "out.gguf", "q8_0", on_progress=change)
        assert not (tmp_path / "out.gguf").exists()


def test_a_checkpoint_that_changes(shipped_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in shipped_checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("config.json", "model.safetensors", "tokenizer.json"):

        def rewrite(tensor: TensorSource, n_bytes: int, name: str = name) -> None:
            (folder / name).write_bytes((folder / name).read_bytes() + b" ")

        with pytest.raises(FormatError, match=rf"{name}: was changed while it was read"):
            convert_checkpoint(folder, tmp_path / "out.gguf", on_progress=rewrite)
        (folder / name).write_bytes((shipped_checkpoint / name).read_bytes())
