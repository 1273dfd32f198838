"""Reading PyTorch checkpoints (`pytorch_model.bin`, torch 1.6 and later) without torch.

The file is a zip archive of uncompressed entries: `data.pkl` says which tensors there are, `data/0`,
`data/1`, ... hold their numbers. Source: torch/serialization.py, _save.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.torch_pickle import PickledTensor, load_state_dict
from ggufpy.errors import FormatError
from ggufpy.gguf.stored import read_bytes, stored_tensor
from ggufpy.gguf.tensors import TensorSource

_MAX_PICKLE_BYTES = 64 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def read_torch_file(path: Path) -> dict[str, TensorSource]:
    """The tensors of a file by name; raises FormatError for anything but plain, whole weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as exc:
        problem = f"not a whole zip archive as torch 1.6 and later write it ({exc})"
        raise FormatError(f"{path}: {problem}; download it again, or save it as safetensors") from exc
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise FormatError(f"{path}: holds {len(pickles)} data.pkl instead of one; not a PyTorch checkpoint")
    reader = _Reader(path, entries, pickles[0].removesuffix("data.pkl"))
    return {name: reader.source(name, tensor) for name, tensor in reader.tensors().items()}


class _Reader:
    """The entries of an archive, all under one folder `root`."""

    def __init__(self, path: Path, entries: dict[str, zipfile.ZipInfo], root: str) -> None:
        self.path, self.entries, self.root = path, entries, root
        self.size = path.stat().st_size

    def tensors(self) -> dict[str, PickledTensor]:
        if self.root + "byteorder" in self.entries and self._read("byteorder") != b"little":
            raise FormatError(f"{self.path}: is not little-endian; save it again on another machine")
        return load_state_dict(self._read("data.pkl"), f"{self.path}: data.pkl")

    def source(self, name: str, tensor: PickledTensor) -> TensorSource:
        storage = tensor.storage
        where = f"{self.path}: tensor '{name}'"
        offset, size = self._locate(f"data/{storage.key}", where)
        if storage.count * storage.type.block_bytes != size:
            problem = f"{storage.count} numbers of {storage.type.label} cannot be {size} bytes"
            raise FormatError(f"{where}: {problem}; download it again")
        last = tensor.offset + sum(
            (n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True)
        )
        if 0 not in tensor.shape and last >= storage.count:
            raise FormatError(
                f"{where}: reaches number {last} of a storage of {storage.count}; download it again"
            )
        begin = offset + tensor.offset * storage.type.block_bytes
        if 0 in tensor.shape or _is_contiguous(tensor):
            return stored_tensor(name, tensor.shape, storage.type, self.path, begin)
        return _strided_tensor(name, tensor, self.path, begin)

    def _read(self, name: str) -> bytes:
        offset, size = self._locate(name, str(self.path))
        if size > _MAX_PICKLE_BYTES:
            raise FormatError(f"{self.path}: {name} has {size} bytes, more than a state dict needs")
        return read_bytes(self.path, offset, size).tobytes()

    def _locate(self, name: str, where: str) -> tuple[int, int]:
        """Offset and size of an entry's bytes in the file."""
        entry = self.entries.get(self.root + name)
        if entry is None:
            raise FormatError(f"{where}: the archive has no entry '{name:.80}'; download it again")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise FormatError(
                f"{where}: the archive's entry '{name:.80}' is compressed; save it as safetensors"
            )
        begin = entry.header_offset + _LOCAL_HEADER.size
        if _LOCAL_HEADER.size <= begin <= self.size:
            header = read_bytes(self.path, entry.header_offset, _LOCAL_HEADER.size).tobytes()
            magic, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            offset = begin + name_length + extra_length
            if magic == b"PK\3\4" and offset + entry.file_size <= self.size:
                return offset, entry.file_size
        raise FormatError(f"{where}: the archive's entry '{name:.80}' is not whole; download it again")


def _is_contiguous(tensor: PickledTensor) -> bool:
    expected = 1
    for n, step in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if n > 1 and step != expected:
            return False
        expected *= n
    return True


def _strided_tensor(name: str, tensor: PickledTensor, path: Path, begin: int) -> TensorSource:
    """A transposed or otherwise spread tensor: all from its first to its last number is read for any row."""
    width = tensor.storage.type.block_bytes
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    row_bytes = tensor.shape[-1] * width

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        numbers = read_bytes(path, begin, span * width).view(f"u{width}")
        steps = [step * width for step in tensor.strides]
        view = np.lib.stride_tricks.as_strided(numbers, tensor.shape, steps, writeable=False)
        rows = np.unravel_index(np.arange(start, stop), tensor.shape[:-1]) if len(tensor.shape) > 1 else ...
        return (
            np.ascontiguousarray(view[rows]).reshape(stop - start, -1).view(np.uint8).reshape(-1, row_bytes)
        )

    return TensorSource(name, tensor.shape, tensor.storage.type, read)
