"""PyTorch checkpoints as torch 1.6 and later write them: a zip archive of uncompressed entries.

`data.pkl` says which tensors there are, `data/0`, `data/1`, ... hold their numbers. Source:
torch/serialization.py, _save.
"""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO
from pathlib import Path

from ggufpy.checkpoint.torch_pickle import MAX_PICKLE_BYTES, PickledTensor, load_state_dict
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.stored import read_bytes

_LOCAL_HEADER = struct.Struct("<4s22xHH")


class TorchArchive:
    """The entries of an archive, all under one folder."""

    def __init__(self, path: Path) -> None:
        """Read the list of entries; raises FormatError."""
        self.path = path
        self.size = path.stat().st_size
        try:
            with zipfile.ZipFile(path) as archive:
                self.entries = {entry.filename: entry for entry in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as exc:
            problem = f"not a whole file as torch.save writes it ({exc!s:.100})"
            raise FormatError(f"{path}: {problem}; download it again, or save it as safetensors") from exc
        pickles = [name for name in self.entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            problem = f"holds {len(pickles)} data.pkl instead of one"
            raise FormatError(f"{path}: {problem}; not a PyTorch checkpoint")
        self.root = pickles[0].removesuffix("data.pkl")

    def tensors(self) -> dict[str, PickledTensor]:
        """The tensors by name; raises FormatError."""
        if self.root + "byteorder" in self.entries and self._read("byteorder") != b"little":
            raise FormatError(f"{self.path}: is not little-endian; save it again on another machine")
        return load_state_dict(BytesIO(self._read("data.pkl")), f"{self.path}: data.pkl")

    def locate(self, key: str, where: str) -> tuple[int, int]:
        """Offset and size of a storage's bytes in the file; raises FormatError that begins with `where`."""
        return self._locate(f"data/{key}", where)

    def _read(self, name: str) -> bytes:
        offset, size = self._locate(name, str(self.path))
        if size > MAX_PICKLE_BYTES:
            raise FormatError(f"{self.path}: {name} has {size} bytes, more than a state dict needs")
        return read_bytes(self.path, offset, size).tobytes()

    def _locate(self, name: str, where: str) -> tuple[int, int]:
        entry, what = self.entries.get(self.root + name), f"entry {quoted(name)}"
        if entry is None:
            raise FormatError(f"{where}: the archive has no {what}; download it again")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise FormatError(f"{where}: the archive's {what} is compressed; save it as safetensors")
        begin = entry.header_offset + _LOCAL_HEADER.size
        if _LOCAL_HEADER.size <= begin <= self.size:
            header = read_bytes(self.path, entry.header_offset, _LOCAL_HEADER.size).tobytes()
            magic, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            offset = begin + name_length + extra_length
            if magic == b"PK\3\4" and offset + entry.file_size <= self.size:
                return offset, entry.file_size
        raise FormatError(f"{where}: the archive's {what} is not whole; download it again")
