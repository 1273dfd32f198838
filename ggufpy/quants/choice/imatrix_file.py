"""Files of importance matrices: sums of the squares of what linears read, in llama-imatrix's two formats.

Source: llama.cpp tools/imatrix/imatrix.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.inputs import Inputs
from ggufpy.gguf.layout import MAGIC
from ggufpy.gguf.outputs import whole_files
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.gguf.writer import write_gguf
from ggufpy.quants.formats import floats

Floats = NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_AGAIN = "make it anew with ggufpy imatrix"
_MOST = 1e25  # above what any text gives; sums of files and products with a context stay within f32


@dataclass(frozen=True, slots=True)
class Squares:
    """sums: of the squares of columns, (matrices, n); counts: of how many rows, (matrices,)."""

    sums: Floats
    counts: Floats

    def means(self) -> Floats:
        """The mean squares, (matrices, n); of an expert that no token reached all ones."""
        means = np.ones_like(self.sums)
        seen = self.counts > 0
        with np.errstate(invalid="ignore", over="ignore"):
            means[seen] = self.sums[seen] / self.counts[seen, None]
        return means

    def problem(self) -> str | None:
        """What is wrong with the numbers, if anything is."""
        if not self.sums.size:
            return "has no numbers"
        parts = (self.sums, self.counts, self.means())
        is_sound = all(((part >= 0) & (part <= _MOST)).all() for part in parts)
        return None if is_sound else f"has NaN, Inf or negative numbers, or some above {_MOST:g}"

    def __add__(self, other: Squares) -> Squares:
        """Those of both texts; raises ValueError for other sizes."""
        if self.sums.size != other.sums.size:
            raise ValueError
        first, second = sorted((self, other), key=lambda each: len(each.counts))
        counts = np.broadcast_to(first.counts, second.counts.shape)  # an old file has one for all experts
        return Squares(first.sums.reshape(second.sums.shape) + second.sums, counts + second.counts)


@dataclass(frozen=True, slots=True)
class ImatrixFile:
    """What a file holds.

    entries: by the name of the tensor. datasets: the texts. chunks: how many pieces of them, of chunk_size
    tokens, 0 if that is not said.
    """

    entries: Mapping[str, Squares]
    datasets: Sequence[str]
    chunks: int
    chunk_size: int

    @classmethod
    def read(cls, path: Path) -> ImatrixFile:
        """Read either format; raises FormatError for all that is wrong with it."""
        with path.open("rb") as stream:
            is_gguf = stream.read(len(MAGIC)) == MAGIC
        file = _read_gguf(path) if is_gguf else _read_legacy(path)
        if not file.entries:
            raise FormatError(f"{path}: holds no tensor's importance; {_AGAIN}")
        for name, squares in file.entries.items():
            if problem := squares.problem():
                raise FormatError(f"{path}: the importance of tensor {quoted(name)} {problem}; {_AGAIN}")
        return file

    def in_rows(self, chunk_size: int) -> ImatrixFile:
        """As if counted by rows: the old format counts chunks, and does not say how large they were."""
        if self.chunk_size:
            return self
        entries = {
            name: Squares(each.sums * np.float32(chunk_size), each.counts * np.float32(chunk_size))
            for name, each in self.entries.items()
        }
        return ImatrixFile(entries, self.datasets, self.chunks, chunk_size)

    def merged(self, other: ImatrixFile) -> ImatrixFile:
        """With the entries of another, of the same model; raises ValueError that names what does not fit."""
        entries = dict(self.entries)
        for name, squares in other.entries.items():
            try:
                entries[name] = entries[name] + squares if name in entries else squares
            except ValueError:
                sizes = f"{entries[name].sums.size} and {squares.sums.size}"
                raise ValueError(f"tensor {quoted(name)} has {sizes} values") from None
        datasets = [*self.datasets, *other.datasets]
        return ImatrixFile(entries, datasets, self.chunks + other.chunks, self.chunk_size)

    def write_gguf(self, path: Path, inputs: Inputs) -> None:
        """Write it as llama-imatrix does by default."""
        metadata: dict[str, Value | Typed] = {
            "general.type": "imatrix",
            "imatrix.datasets": Typed(list(self.datasets), ValueType.STRING),
            "imatrix.chunk_count": Typed(self.chunks, ValueType.U32),
            "imatrix.chunk_size": Typed(self.chunk_size, ValueType.U32),
        }
        tensors = []
        for name, squares in sorted(self.entries.items()):
            tensors.append(_tensor(name + _SUMS, squares.sums))
            tensors.append(_tensor(name + _COUNTS, squares.counts[:, None]))
        write_gguf(path, metadata, tensors, inputs=inputs)

    def write_legacy(self, path: Path, inputs: Inputs) -> None:
        """Write it in the format before GGUF; it counts chunks, and names one text."""
        inputs.check_outputs([path])
        parts = [struct.pack("<i", len(self.entries))]
        for name, squares in sorted(self.entries.items()):
            sums = squares.means().reshape(-1) * np.float32(self.chunks)
            text = name.encode("utf-8", "surrogateescape")
            parts += [struct.pack("<i", len(text)), text, struct.pack("<ii", self.chunks, sums.size)]
            parts.append(sums.astype("<f4").tobytes())
        dataset = (self.datasets[-1] if self.datasets else "").encode("utf-8", "surrogateescape")
        parts += [struct.pack("<ii", self.chunks, len(dataset)), dataset]
        with whole_files([path]) as (stream,):
            stream.write(b"".join(parts))


def _tensor(name: str, values: Floats) -> TensorSource:
    rows = np.ascontiguousarray(values, "<f4")
    return TensorSource(name, rows.shape, GGMLType.F32, lambda start, stop: rows[start:stop].view(np.uint8))


def _read_gguf(path: Path) -> ImatrixFile:
    """Read `<name>.in_sum2`, (experts, n), and `<name>.counts`, (experts, 1), of each tensor."""
    with GGUFFile.open(path) as file:
        kind = file.metadata.get("general.type")
        if kind != "imatrix":
            raise FormatError(
                f"{path}: is a {kind or 'model'!s:.40}, not an importance matrix; another file?"
            )
        datasets = file.metadata.get("imatrix.datasets")
        entries = {}
        for key, sums in file.tensors.items():
            if key.endswith(_SUMS):
                name = key.removesuffix(_SUMS)
                entries[name] = _squares(path, name, sums, file.tensors.get(name + _COUNTS))
        numbers = (file.metadata.get(f"imatrix.chunk_{part}", 0) for part in ("count", "size"))
        chunks, size = (number if isinstance(number, int) and number >= 0 else 0 for number in numbers)
    return ImatrixFile(
        entries, [str(each) for each in datasets] if isinstance(datasets, list) else [], chunks, size
    )


def _squares(path: Path, name: str, sums: TensorInfo, counts: TensorInfo | None) -> Squares:
    if counts is None or {sums.type, counts.type} != {GGMLType.F32}:
        problem = f"tensor {quoted(name)} lacks sums and counts in f32"
        raise FormatError(f"{path}: {problem}; {_AGAIN}")
    total, count = _values(sums), _values(counts)
    if not count.size or total.size != sums.shape[-1] * count.size:
        problem = f"tensor {quoted(name)} has {total.size} sums and {count.size} counts"
        raise FormatError(f"{path}: {problem}, which do not go together; {_AGAIN}")
    return Squares(total.reshape(count.size, -1).astype(np.float32), count)


def _values(tensor: TensorInfo) -> Floats:
    source = tensor.source()
    return floats.decode(source.read(0, source.rows), source.type).reshape(-1)


def _read_legacy(path: Path) -> ImatrixFile:
    """Read a .dat file: entries, and behind them how many chunks of which text, which may be missing."""
    data = _Bytes(path, path.read_bytes())
    entries = {}
    for _ in range(data.number()):
        name = data.take(data.number()).decode("utf-8", "surrogateescape")
        calls, length = data.number(), data.number()
        sums = np.frombuffer(data.take(4 * length), "<f4").astype(np.float32)
        entries[name] = Squares(sums[None], np.array([calls or 1], np.float32))
    chunks, dataset = 0, ""
    if not data.at_end:
        chunks = data.number()
        dataset = data.take(data.number()).decode("utf-8", "surrogateescape")
    return ImatrixFile(entries, [dataset] if dataset else [], chunks, 0)


class _Bytes:
    """A legacy file, read from its start; FormatError where it ends too early."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data, self._position = path, data, 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, n: int) -> bytes:
        start, self._position = self._position, self._position + n
        if self._position > len(self._data):
            raise FormatError(
                f"{self._path}: is no importance matrix, or cut off after {len(self._data)} bytes"
            )
        return self._data[start : self._position]

    def number(self) -> int:
        value: int = struct.unpack("<i", self.take(4))[0]
        if value < 0:
            raise FormatError(f"{self._path}: is no importance matrix: a length in it is {value}")
        return value
