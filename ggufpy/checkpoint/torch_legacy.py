"""PyTorch checkpoints as torch before 1.6 wrote them: pickles, one behind the other, then the numbers.

The pickles: a magic number, a version, facts of the machine, the state dict, the keys of the storages in the
order in which they follow, each as a count (int64) and its numbers. Source: torch/serialization.py,
_legacy_save.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.torch_pickle import MAX_PICKLE_BYTES, PickledTensor, load_state_dict, load_value
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.stored import read_bytes

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_COUNT_BYTES = 8


class LegacyFile:
    """The pickles of a file, and where its storages lie."""

    def __init__(self, path: Path) -> None:
        """Read the pickles; raises FormatError."""
        self.path = path
        self.size = path.stat().st_size
        stream = BytesIO(read_bytes(path, 0, min(self.size, MAX_PICKLE_BYTES)).tobytes())
        self._check_machine(stream)
        self._tensors = load_state_dict(stream, f"{path}: state dict")
        keys = load_value(stream, f"{path}: list of storages")
        self._places = self._find(keys, stream.tell())

    def tensors(self) -> dict[str, PickledTensor]:
        """The tensors by name."""
        return self._tensors

    def locate(self, key: str, where: str) -> tuple[int, int]:
        """Offset and size of a storage's bytes in the file; raises FormatError that begins with `where`."""
        if key not in self._places:
            raise FormatError(f"{where}: the file has no storage {quoted(key)}; download it again")
        return self._places[key]

    def _check_machine(self, stream: BytesIO) -> None:
        for what, expected in (("magic number", _MAGIC), ("version", _VERSION)):
            if load_value(stream, f"{self.path}: {what}") != expected:
                raise FormatError(f"{self.path}: its {what} is not torch's; not a PyTorch checkpoint")
        match load_value(stream, f"{self.path}: byte order"):
            case {"little_endian": True}:
                return
            case {"little_endian": False}:
                raise FormatError(f"{self.path}: is not little-endian; save it again on another machine")
        raise FormatError(f"{self.path}: does not say its byte order; download it again")

    def _find(self, keys: Any, position: int) -> dict[str, tuple[int, int]]:
        """Offset and bytes of each storage; the first is at `position`, the last ends the file."""
        widths = {t.storage.key: t.storage.type.block_bytes for t in self._tensors.values()}
        places: dict[str, tuple[int, int]] = {}
        for key in keys if isinstance(keys, list) else [None]:
            if not isinstance(key, str) or key not in widths or key in places:
                problem = "its list of storages does not fit its tensors"
                raise FormatError(f"{self.path}: {problem}; download it again")
            count = int.from_bytes(read_bytes(self.path, position, _COUNT_BYTES).tobytes(), "little")
            places[key] = position + _COUNT_BYTES, count * widths[key]
            position = sum(places[key])
            if position > self.size:
                problem = f"storage {quoted(key)} ends at {position}, the file at {self.size}"
                raise FormatError(f"{self.path}: {problem}; download it again")
        if position != self.size:
            problem = f"its storages end at {position}, the file at {self.size}"
            raise FormatError(f"{self.path}: {problem}; download it again")
        return places
