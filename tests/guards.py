"""A pytest plugin: all memory of programs ends where pages begin that may not be touched.

pytest -p guards ...: a read or write behind values, scratch, state, weights or arrays of ops ends the
process. Programs run on one thread, as each thread's scratch begins where that of the one before ends.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import engines
import numpy as np
import programs
from numpy.typing import NDArray

from ggufpy._kernels import ffi
from ggufpy.gguf.reader import TensorInfo
from ggufpy.runtime import program, records
from ggufpy.runtime.state import pages, slots, states

_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[mmap.mmap] = []
_ends: set[int] = set()

_data_of, _pools_of, _pointer_of = records._data, pages._pools, records.Memory.pointer


def guarded(n_bytes: int) -> NDArray[np.uint8]:
    """Memory that ends where a page begins that may not be touched."""
    size = -(-n_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
    assert _libc.mprotect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    _kept.append(memory)
    _ends.add(end)
    return np.frombuffer(memory, np.uint8)[size - n_bytes : size]


def copied(array: NDArray[Any]) -> NDArray[Any]:
    """The same array in such memory."""
    copy: NDArray[Any] = guarded(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _data(info: TensorInfo) -> NDArray[np.uint8]:
    return copied(_data_of(info))


def _pointer(memory: records.Memory, c_type: str, array: NDArray[Any]) -> Any:
    is_guarded = array.ctypes.data + array.nbytes in _ends
    return _pointer_of(memory, c_type, array if is_guarded else copied(array))


def _pools(*arguments: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    k, v = _pools_of(*arguments)
    return copied(k), copied(v)


class _Slots(slots.Slots):
    def __init__(self, sizes: list[int], n_seq: int) -> None:
        super().__init__(sizes, n_seq)
        self._data = [copied(data) for data in self._data]
        self._pointers = [ffi.from_buffer("float[]", data) for data in self._data]


def pytest_configure() -> None:
    """Programs that are made from now on have such memory."""
    for place, name, value in (
        (records, "aligned", guarded),
        (program, "aligned", guarded),
        (records, "_data", _data),
        (records.Memory, "pointer", _pointer),
        (pages, "_pools", _pools),
        (states, "Slots", _Slots),
        (engines, "N_THREADS", 1),
        (programs, "N_THREADS", 1),
    ):
        assert hasattr(place, name)
        setattr(place, name, value)
