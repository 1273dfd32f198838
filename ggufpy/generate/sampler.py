"""Sampling: parameters, history and random state; the arithmetic is in csrc/text/sample.c."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. Names, order and defaults are llama.cpp's.

    temp <= 0 takes the most likely token; top_k <= 0, top_p >= 1 and min_p <= 0 turn these off.
    repeat_last_n: how many of the last tokens the penalties look at. seed None: a new one each time.
    """

    temp: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None


class Sampler:
    """Draws tokens from logits: the same seed, logits and history give the same tokens."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self._rng = ffi.new("gg_rng *")
        self._history: deque[int] = deque(maxlen=max(params.repeat_last_n, 0))
        self._scratch: Any = None
        self._n_scratch = 0
        self._record = ffi.new(
            "gg_sampling *",
            {
                "temperature": params.temp,
                "top_p": params.top_p,
                "min_p": params.min_p,
                "repeat_penalty": params.repeat_penalty,
                "frequency_penalty": params.frequency_penalty,
                "presence_penalty": params.presence_penalty,
                "top_k": max(min(params.top_k, _INT32_MAX), 0),
            },
        )
        self.reset()

    def reset(self) -> None:
        """Forget the history and start the random numbers anew."""
        seed = self.params.seed if self.params.seed is not None else secrets.randbits(32)
        lib.gg_rng_seed(self._rng, seed & 0xFFFFFFFF)
        self._history.clear()

    def accept(self, token: int) -> None:
        """Add a token to the history that penalties look at."""
        self._history.append(token)

    def draw(self, logits: NDArray[np.float32]) -> int:
        """Draw from `logits`, (n_vocab,), and accept the token."""
        n_vocab = logits.size
        if self._n_scratch < n_vocab:
            self._scratch, self._n_scratch = ffi.new("gg_candidate[]", n_vocab), n_vocab
        history = np.fromiter((t for t in self._history if 0 <= t < n_vocab), np.int32)
        token = lib.gg_sample(
            ffi.from_buffer("float[]", logits),
            n_vocab,
            self._record,
            ffi.from_buffer("int32_t[]", history),
            history.size,
            self._rng,
            self._scratch,
        )
        self.accept(token)
        return token
