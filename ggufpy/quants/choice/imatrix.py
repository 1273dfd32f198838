"""Importance matrices: how much each column of a tensor matters, and how quantizing uses that.

Source: llama.cpp tools/quantize/quantize.cpp.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.quants.choice.imatrix_file import Floats, ImatrixFile

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
        return cls.of(str(path), ImatrixFile.read(Path(path)))

    @classmethod
    def of(cls, path: str, file: ImatrixFile) -> ImportanceMatrix:
        """That of a file's sums; path: what messages and metadata call it."""
        entries = {name: squares.means().reshape(-1) for name, squares in file.entries.items()}
        return cls(path, entries, file.datasets[0] if file.datasets else "", file.chunks)

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
