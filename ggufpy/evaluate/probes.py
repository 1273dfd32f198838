"""What the machine can do at most, reading memory or multiplying: the yardsticks for speeds.

A machine that is shared, or hot, is slower at one moment than at another: take turns with what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

from ggufpy._kernels import ffi, lib
from ggufpy.gguf.reader import TensorInfo

# Operands that prompts are multiplied in.
ARITHMETIC = {"f32": lib.GG_F32, "bf16": lib.GG_BF16_PAIRS, "int8": lib.GG_I8}

_SECONDS = 0.2
_PIECES = 256  # of arithmetic for each thread: some milliseconds
_NEAR = 4096  # bytes: tensors that are less apart are read as one


class ReadProbe:
    """Threads that read the bytes of `tensors` where the file is mapped, and do nothing else with them.

    sum: of all 64-bit words of the last pass, modulo 2**64.
    """

    def __init__(self, tensors: Iterable[TensorInfo], n_threads: int) -> None:
        self._spans = list(_spans(tensors))
        self._n_threads = n_threads
        self.sum = 0

    def read(self) -> int:
        """One pass; returns how many bytes it read."""
        self.sum = 0
        for first, n_bytes in self._spans:
            pointer = ffi.cast("uint8_t *", first.data.ctypes.data)
            self.sum += lib.gg_read_probe(pointer, n_bytes, self._n_threads)
        self.sum %= 2**64
        return sum(n_bytes for _, n_bytes in self._spans)

    def rate(self) -> float:
        """Bytes per second."""
        return _rate(self.read, _SECONDS)


class PeakProbe:
    """Threads that multiply and add in registers, by the fastest instructions that GGUFPY_ISA allows.

    arithmetic: what they multiply, a key of ARITHMETIC for which there are instructions.
    """

    def __init__(self, arithmetic: str, n_threads: int) -> None:
        self.arithmetic = arithmetic
        self._n_threads = n_threads

    def rate(self) -> float:
        """Multiply-adds per second."""
        operand, pieces = ARITHMETIC[self.arithmetic], _PIECES * self._n_threads
        return _rate(lambda: lib.gg_peak_probe(operand, pieces, self._n_threads), _SECONDS)


def _rate(run: Callable[[], int], least: float) -> float:
    """What `run` returns, per second, over `least` seconds or a little more."""
    done, start, seconds = 0, perf_counter(), 0.0
    while seconds < least:
        done += run()
        seconds = perf_counter() - start
    return done / seconds


def _spans(tensors: Iterable[TensorInfo]) -> Iterator[tuple[TensorInfo, int]]:
    """The first tensor of each stretch of neighbours in a file, and the bytes to the end of the last."""
    first, end = None, 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.file, tensor.offset)):
        if first and (tensor.file != first.file or tensor.offset >= end + _NEAR):
            yield first, end - first.offset
            first = None
        first, end = first or tensor, tensor.offset + tensor.n_bytes
    if first:
        yield first, end - first.offset
