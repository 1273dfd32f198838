"""Importance matrices: how much each column of a tensor matters, as llama-imatrix measured it.

Source: llama.cpp tools/imatrix/imatrix.cpp (both formats), tools/quantize/quantize.cpp (how they are used).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.layout import MAGIC
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.quants.formats import floats

Floats = NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"
# llama-quantize keeps that many bytes of a text that it writes into the metadata.
_LONGEST_TEXT = 127


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """What an imatrix file holds.

    entries: tensor name -> mean squares of the inputs of its columns, those of all experts one after another.
    dataset: the text that they come from, if it is named; chunks: how many pieces of it.
    """

    path: str
    entries: dict[str, Floats]
    dataset: str
    chunks: int

    @classmethod
    def read(cls, path: Path | str) -> ImportanceMatrix:
        """Read a GGUF imatrix or a legacy .dat file; raises FormatError for all that is wrong with it."""
        with Path(path).open("rb") as stream:
            is_gguf = stream.read(len(MAGIC)) == MAGIC
        matrix = _read_gguf(path) if is_gguf else _read_legacy(path)
        if not matrix.entries:
            raise FormatError(f"{path}: holds no tensor's importance; make it anew with llama-imatrix")
        for name, values in matrix.entries.items():
            if not np.isfinite(values).all() or (values < 0).any():
                problem = f"the importance of tensor {quoted(name)} has NaN, Inf or negative numbers"
                raise FormatError(f"{path}: {problem}; make it anew with llama-imatrix")
        return matrix

    def only(self, include: Collection[str], exclude: Collection[str]) -> ImportanceMatrix:
        """Entries whose names hold one of `include`, if there are any, and none of `exclude`.

        Raises FormatError if there are none.
        """
        entries = {
            name: values
            for name, values in self.entries.items()
            if (not include or any(part in name for part in include))
            and not any(part in name for part in exclude)
        }
        if not entries:
            raise FormatError(
                f"{self.path}: of its {len(self.entries)} entries, none is included; check the names"
            )
        return replace(self, entries=entries)

    def check_model(self, names: Iterable[str]) -> None:
        """Raise FormatError if the matrix has nothing for the tensors of a model."""
        if self.entries and self.entries.keys().isdisjoint(names):
            first = quoted(next(iter(self.entries)))
            problem = f"has no entry for any tensor of the model, only such as {first}"
            raise FormatError(f"{self.path}: {problem}; it is the matrix of another model")

    def weights(self, name: str, shape: tuple[int, ...]) -> Floats | None:
        """Of a tensor (rows, n) those of its columns, (n,); of experts (experts, rows, n) (experts, n).

        None if it has no entry. Raises FormatError if that is of another length; only the embedding's is
        ignored then, as llama-quantize does.
        """
        values = self.entries.get(name)
        experts = shape[-3] if len(shape) > 2 else 1
        if values is None or values.size == experts * shape[-1]:
            return values if values is None or len(shape) < 3 else values.reshape(experts, shape[-1])
        if name == "token_embd.weight":
            return None
        problem = f"{values.size} values for tensor {quoted(name)}, which needs {experts * shape[-1]}"
        raise FormatError(f"{self.path}: has {problem}; it is the matrix of another model")

    def metadata(self) -> dict[str, Value | Typed]:
        """What a quantized file says of the matrix."""
        entries: dict[str, Value | Typed] = {"quantize.imatrix.file": _clipped(self.path)}
        if self.dataset:
            entries["quantize.imatrix.dataset"] = _clipped(self.dataset)
        entries["quantize.imatrix.entries_count"] = Typed(len(self.entries), ValueType.U32)
        if self.chunks:
            entries["quantize.imatrix.chunks_count"] = Typed(self.chunks, ValueType.U32)
        return entries


def _clipped(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[:_LONGEST_TEXT].decode("utf-8", "ignore")


def _read_gguf(path: Path | str) -> ImportanceMatrix:
    """Read `<name>.in_sum2`, (experts, n), and `<name>.counts`, (experts, 1), of each tensor."""
    with GGUFFile.open(path) as file:
        kind = file.metadata.get("general.type")
        if kind != "imatrix":
            raise FormatError(
                f"{path}: is a {kind or 'model'!s:.40}, not an importance matrix; another file?"
            )
        datasets = file.metadata.get("imatrix.datasets")
        chunks = file.metadata.get("imatrix.chunk_count", 0)
        entries = {}
        for key, sums in file.tensors.items():
            if key.endswith(_SUMS):
                name = key.removesuffix(_SUMS)
                entries[name] = _means(path, name, sums, file.tensors.get(name + _COUNTS))
    dataset = datasets[0] if isinstance(datasets, list) and datasets else ""
    return ImportanceMatrix(str(path), entries, str(dataset), chunks if isinstance(chunks, int) else 0)


def _means(path: Path | str, name: str, sums: TensorInfo, counts: TensorInfo | None) -> Floats:
    if counts is None or {sums.type, counts.type} != {GGMLType.F32}:
        problem = f"tensor {quoted(name)} lacks sums and counts in f32"
        raise FormatError(f"{path}: {problem}; make it anew with llama-imatrix")
    total, count = _values(sums), _values(counts)
    if not count.size or total.size != sums.shape[-1] * count.size:
        problem = f"tensor {quoted(name)} has {total.size} sums and {count.size} counts"
        raise FormatError(f"{path}: {problem}, which do not go together; make it anew with llama-imatrix")
    table = total.reshape(count.size, -1).astype(np.float32)
    # An expert that the text never reached: all columns alike.
    seen = count > 0
    means = np.ones_like(table)
    with np.errstate(invalid="ignore", over="ignore"):
        means[seen] = table[seen] / count[seen, None]
    return means.reshape(-1)


def _values(tensor: TensorInfo) -> Floats:
    source = tensor.source()
    return floats.decode(source.read(0, source.rows), source.type).reshape(-1)


def _read_legacy(path: Path | str) -> ImportanceMatrix:
    """Read a .dat file: entries, and behind them how many chunks of which text, which may be missing."""
    data = _Bytes(path, Path(path).read_bytes())
    entries = {}
    for _ in range(data.number()):
        name = data.take(data.number()).decode("utf-8", "surrogateescape")
        calls, length = data.number(), data.number()
        sums = np.frombuffer(data.take(4 * length), "<f4").astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            entries[name] = sums / np.float32(calls) if calls else sums
    chunks, dataset = 0, ""
    if not data.at_end:
        chunks = data.number()
        dataset = data.take(data.number()).decode("utf-8", "surrogateescape")
    return ImportanceMatrix(str(path), entries, dataset, chunks)


class _Bytes:
    """A legacy file, read from its start; FormatError where it ends too early."""

    def __init__(self, path: Path | str, data: bytes) -> None:
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
