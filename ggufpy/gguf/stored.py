"""Tensors that lie row after row in a file.

They are read, not mapped: resident memory stays at the rows in hand, and a file that shrinks meanwhile is an
error instead of a crash.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType


def read_bytes(path: Path, offset: int, size: int) -> NDArray[np.uint8]:
    """`size` bytes of a file from `offset`; raises FormatError if it ends before."""
    out = np.empty(size, np.uint8)
    rest = out.data
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while rest:
            count = stream.readinto(rest)
            if not count:
                end = offset + size
                raise FormatError(
                    f"{path}: ends before byte {end}, within a tensor; copy or download it again"
                )
            rest = rest[count:]
    return out


def stored_tensor(name: str, shape: tuple[int, ...], type: GGMLType, path: Path, offset: int) -> TensorSource:
    """The tensor at `offset` of `path`: little-endian, no gaps. A scalar becomes a vector of one."""
    shape = shape or (1,)
    row_bytes = type.row_bytes(shape[-1])

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        data = read_bytes(path, offset + start * row_bytes, (stop - start) * row_bytes)
        return data.reshape(stop - start, row_bytes)

    return TensorSource(name, shape, type, read)
