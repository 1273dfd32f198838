"""What llama.cpp's linears read, summed as llama-imatrix does, from the tensors that it computes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from oracle import Oracle
from oracle_library import ContextParams

Doubles = NDArray[np.float64]
Kind = TypeVar("Kind", np.float32, np.int32)


class Tensor(ctypes.Structure):
    """struct ggml_tensor, of ggml.h."""


Tensor._fields_ = [
    ("type", c_int32),
    ("buffer", c_void_p),
    ("ne", c_int64 * 4),
    ("nb", c_size_t * 4),
    ("op", c_int32),
    ("op_params", c_int32 * 16),
    ("flags", c_int32),
    ("src", POINTER(Tensor) * 10),
    ("view_src", c_void_p),
    ("view_offs", c_size_t),
    ("data", c_void_p),
    ("name", c_char * 64),
]
Callback = ctypes.CFUNCTYPE(c_bool, POINTER(Tensor), c_bool, c_void_p)


class SquaresOracle(Oracle):
    """Sums the squares of what matrices read; sums: (matrices, n) by the name of the tensor."""

    def __init__(self, path: Path, n_ctx: int) -> None:
        self.sums: dict[str, Doubles] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}
        self._callback = Callback(self._see)
        super().__init__(path, n_ctx, kv_f32=True)

    def _change(self, params: ContextParams) -> None:
        params.cb_eval = ctypes.cast(self._callback, c_void_p)

    def read(self, chunks: Sequence[list[int]]) -> None:
        for chunk in chunks:
            self.clear()
            self.decode(chunk, all_rows=True)

    def _see(self, pointer: ctypes._Pointer[Tensor], ask: bool, _: int) -> bool:
        tensor = pointer.contents
        if not tensor.src[0] or not tensor.src[1]:
            return False
        weight, x = tensor.src[0].contents, tensor.src[1].contents
        name = weight.name.decode()
        is_linear = name.startswith("blk.") and name.endswith(".weight") and x.type == 0
        if not is_linear or (tensor.ne[0], x.ne[0]) != (weight.ne[1], weight.ne[0]):
            return False
        if not ask:
            self._add(name, weight, _values(x, np.float32), tensor)
        return True

    def _add(self, name: str, weight: Tensor, x: NDArray[np.float32], tensor: Tensor) -> None:
        squares = x.astype(np.float64) ** 2
        sums = self.sums.setdefault(name, np.zeros((weight.ne[2], weight.ne[0])))
        counts = self.counts.setdefault(name, np.zeros(weight.ne[2], np.int64))
        if not tensor.src[2]:
            sums[0] += squares.reshape(-1, weight.ne[0]).sum(axis=0)
            counts[0] += squares.size // weight.ne[0]
            return
        ids = _values(tensor.src[2].contents, np.int32)[0, 0]  # (tokens, slots)
        squares = np.broadcast_to(squares[0], (*ids.shape, weight.ne[0]))
        for expert in range(weight.ne[2]):
            sums[expert] += squares[ids == expert].sum(axis=0)
            counts[expert] += (ids == expert).sum()


def _values(tensor: Tensor, dtype: type[Kind]) -> NDArray[Kind]:
    """A tensor's numbers, of 4 bytes, wherever they lie: (ne[3], ne[2], ne[1], ne[0])."""
    shape = tuple(tensor.ne)[::-1]
    strides = tuple(tensor.nb)[::-1]
    reach = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 4
    memory = (ctypes.c_char * reach).from_address(tensor.data)
    return np.ndarray(shape, dtype, memory, strides=strides).copy()
