"""Reading PyTorch checkpoints (`pytorch_model.bin`) without torch, in both forms that it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.torch_archive import TorchArchive
from ggufpy.checkpoint.torch_legacy import LegacyFile
from ggufpy.checkpoint.torch_pickle import PickledTensor
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.stored import read_bytes, stored_tensor
from ggufpy.gguf.tensors import TensorSource

_PICKLE = b"\x80"  # the opcode PROTO


def read_torch_file(path: Path) -> dict[str, TensorSource]:
    """The tensors of a file by name; raises FormatError for anything but plain, whole weights."""
    with path.open("rb") as stream:
        is_legacy = stream.read(1) == _PICKLE
    file = LegacyFile(path) if is_legacy else TorchArchive(path)
    return {name: _source(file, name, tensor) for name, tensor in file.tensors().items()}


def _source(file: LegacyFile | TorchArchive, name: str, tensor: PickledTensor) -> TensorSource:
    storage = tensor.storage
    where = f"{file.path}: tensor {quoted(name)}"
    offset, size = file.locate(storage.key, where)
    if storage.count * storage.type.block_bytes != size:
        problem = f"{storage.count} numbers of {storage.type.label} cannot be {size} bytes"
        raise FormatError(f"{where}: {problem}; download it again")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if 0 not in tensor.shape and last >= storage.size:
        problem = f"reaches number {last} of a storage of {storage.size}"
        raise FormatError(f"{where}: {problem}; download it again")
    begin = offset + (storage.begin + tensor.offset) * storage.type.block_bytes
    if 0 in tensor.shape or _is_contiguous(tensor):
        return stored_tensor(name, tensor.shape, storage.type, file.path, begin)
    return _strided_tensor(name, tensor, file.path, begin)


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
