"""What the machine can do at most, reading memory or multiplying: the yardsticks for speeds.

A machine that is shared, or hot, is slower at one moment than at another: take turns with what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import perf_counter

from ggufpy._kernels import ffi, lib
from ggufpy.gguf.reader import TensorInfo

# Operands whose products a CPU may have instructions of their own for.
ARITHMETIC = {"f32": lib.GG_ARITHMETIC_F32, "int8": lib.GG_ARITHMETIC_I8, "bf16": lib.GG_ARITHMETIC_BF16}

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
    """Threads that multiply and add in registers, operands of the kind that the CPU is fastest with.

    arithmetic: that kind, a key of ARITHMETIC; instructions that GGUFPY_ISA rules out do not count.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        rates = {kind: _rate(partial(self._run, kind), _SECONDS / 10) for kind in ARITHMETIC}
        self.arithmetic = max(rates, key=lambda kind: rates[kind])

    def rate(self) -> float:
        """Multiply-adds per second."""
        return _rate(partial(self._run, self.arithmetic), _SECONDS)

    def _run(self, kind: str) -> int:
        done: int = lib.gg_peak_probe(ARITHMETIC[kind], _PIECES * self._n_threads, self._n_threads)
        return done


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
        first, end = first or tensor, tensor.offset + tensor.data.nbytes
    if first:
        yield first, end - first.offset
