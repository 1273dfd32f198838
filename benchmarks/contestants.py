"""Those whose speed is compared: our engine, llama.cpp, and a probe that only reads the same memory."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from ggufpy._kernels import ffi, lib
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.runtime.sampler import Sampler, SamplingParams

HERE = Path(__file__).resolve().parent
PROMPT = tuple(range(100, 108))


class Ours:
    """ggufpy's engine."""

    def __init__(self, file: GGUFFile, n_ctx: int, n_threads: int) -> None:
        self._engine = Engine.load(file, n_ctx=n_ctx, n_threads=n_threads)

    def generate(self, n_tokens: int) -> float:
        """Seconds for `n_tokens` one by one, after a prompt that is not timed."""
        sampler = Sampler(SamplingParams(temp=0.0))
        sequence = self._engine.new_sequence()
        self._engine.eval(sequence, list(PROMPT))
        start = perf_counter()
        for _ in range(n_tokens):
            token = self._engine.sample(sampler)
            self._engine.eval(sequence, [token], generating=True)
        seconds = perf_counter() - start
        sequence.close()
        return seconds

    def read_prompt(self, tokens: Sequence[int]) -> float:
        """Seconds for `tokens` in one batch, with the logits of the last."""
        sequence = self._engine.new_sequence()
        start = perf_counter()
        self._engine.eval(sequence, list(tokens))
        seconds = perf_counter() - start
        sequence.close()
        return seconds


class LlamaCpp:
    """llama.cpp from the `xllamacpp` wheel (AVX2), without flash attention."""

    def __init__(self, path: Path, n_ctx: int, n_threads: int) -> None:
        sys.path.append(str(HERE.parent / "tests"))
        from oracle import Oracle

        self._oracle = Oracle(path, n_ctx, n_threads)

    def generate(self, n_tokens: int) -> float:
        """Seconds for `n_tokens` one by one, after a prompt that is not timed."""
        self._oracle.clear()
        logits = self._oracle.decode(PROMPT)
        start = perf_counter()
        for _ in range(n_tokens):
            logits = self._oracle.decode([int(logits.argmax())])
        return perf_counter() - start

    def read_prompt(self, tokens: Sequence[int]) -> float:
        """Seconds for `tokens` in one batch, with the logits of the last."""
        self._oracle.clear()
        start = perf_counter()
        self._oracle.decode(tokens)
        return perf_counter() - start


class Probe:
    """Threads that read the last `n_bytes` of a mapped file, once per token."""

    def __init__(self, path: Path, n_bytes: int, n_threads: int) -> None:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._data = np.frombuffer(mapped, np.uint8)[-n_bytes:]
        self._n_threads = n_threads
        self.sum = 0

    def generate(self, n_tokens: int) -> float:
        """Seconds for `n_tokens` passes; `sum` is then that of all words read, modulo 2**64."""
        pointer = ffi.from_buffer("uint8_t[]", self._data)
        start = perf_counter()
        sums = [lib.gg_read_probe(pointer, self._data.nbytes, self._n_threads) for _ in range(n_tokens)]
        seconds = perf_counter() - start
        self.sum = sum(sums) % 2**64
        return seconds
