"""Sampling: parameters, history and random state; the arithmetic is in csrc/text/sample.c."""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.errors import SamplingError

_INT32_MAX = 2**31 - 1


class Numbers(TypedDict, total=False):
    """What a caller says about the draw in numbers; meanings and defaults are those of `SamplingParams`."""

    top_k: int
    typical_p: float
    top_p: float
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. Names, order and defaults are llama.cpp's.

    temp <= 0 takes the most likely token; top_k <= 0, typical_p >= 1, top_p >= 1 and min_p <= 0 turn these
    off. The penalties make tokens less likely that are among the last repeat_last_n: by a factor, by so much
    for each time, by so much once. seed None: a new one each time.
    """

    temp: float = 0.8
    top_k: int = 40
    typical_p: float = 1.0
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what is no finite number."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "seed" and value is None:
                continue
            if not isinstance(value, Real) or not math.isfinite(value):
                raise ValueError(f"{field.name}={value!r:.40}: must be a finite number")


# A stage of the chain: its name in C, whether it changes anything, its n and its values (gg_stage).
_Stage = tuple[str, bool, int, tuple[float, ...]]


def _stages(params: SamplingParams) -> list[_Stage]:
    """The chain in llama.cpp's order; what each stage does stands in csrc/gg_cdef.h."""
    penalties = params.repeat_penalty, params.frequency_penalty, params.presence_penalty
    cuts = params.temp > 0  # the likeliest is wanted alone, whatever else would be kept
    return [
        ("penalties", penalties != (1, 0, 0), max(params.repeat_last_n, 0), penalties),
        ("top_k", cuts and params.top_k > 0, params.top_k, ()),
        ("typical_p", cuts and params.typical_p < 1, 0, (params.typical_p,)),
        ("top_p", cuts and params.top_p < 1, 0, (params.top_p,)),
        ("min_p", cuts and params.min_p > 0, 0, (params.min_p,)),
        ("temperature", params.temp != 1, 0, (params.temp,)),
    ]


class Sampler:
    """Draws tokens from logits: the same seed, logits and history give the same tokens.

    bias: (n_vocab,), added to the logits, None for nothing; `bias_row` makes it.
    """

    def __init__(self, params: SamplingParams, *, bias: NDArray[np.float32] | None = None) -> None:
        self.params = params
        self._bias = bias
        self._rng = ffi.new("gg_rng *")
        self._scratch: Any = None
        self._n_scratch = 0
        stages = [stage for stage in _stages(params) if stage[1]]
        records = [
            {"kind": lib.gg_find_stage(name.encode()), "n": min(n, _INT32_MAX), "value": values}
            for name, _, n, values in stages
        ]
        looks_back = max((n for name, _, n, _ in stages if name == "penalties"), default=0)
        self._history: deque[int] = deque(maxlen=looks_back)
        self._n_stages, self._stages = len(stages), ffi.new("gg_stage[]", records)
        self.reset()

    def reset(self) -> None:
        """Forget the history and start the random numbers anew."""
        seed = self.params.seed if self.params.seed is not None else secrets.randbits(32)
        lib.gg_rng_seed(self._rng, seed & 0xFFFFFFFF)
        self._history.clear()

    def accept(self, token: int) -> None:
        """Add a token to the history that penalties look at."""
        self._history.append(token)

    def draw(self, logits: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> int:
        """Draw from `logits`, (n_vocab,), and accept the token. mask: (n_vocab,), False: cannot be drawn.

        Raises SamplingError, a ValueError, if no token can be drawn; ValueError for a mask or bias of another
        length.
        """
        n_vocab = logits.size
        for name, array in (("mask", mask), ("bias", self._bias)):
            if array is not None and array.size != n_vocab:
                raise ValueError(f"the {name} is for {array.size} tokens, the vocabulary has {n_vocab}")
        if self._n_scratch < n_vocab:
            self._scratch, self._n_scratch = ffi.new("gg_candidate[]", n_vocab), n_vocab
        history = np.fromiter((t for t in self._history if 0 <= t < n_vocab), np.int32)
        choice = ffi.new("gg_choice *")
        choice.n_vocab, choice.n_history = n_vocab, history.size
        choice.logits = ffi.from_buffer("float[]", logits)
        choice.history = ffi.from_buffer("int32_t[]", history)
        if self._bias is not None:
            choice.bias = ffi.from_buffer("float[]", self._bias)
        if mask is not None:
            choice.mask = ffi.from_buffer("uint8_t[]", mask)
        token = lib.gg_sample(choice, self._stages, self._n_stages, self._rng, self._scratch)
        if token < 0:
            raise SamplingError(
                "no token can be drawn: all are masked, or their logits are -inf or no numbers"
            )
        self.accept(token)
        return token


def bias_row(n_vocab: int, bias: Mapping[int, float]) -> NDArray[np.float32]:
    """A bias for each token of a vocabulary: (n_vocab,).

    Raises ValueError for a token that the vocabulary does not have, and for what is no number, TypeError for
    what is no mapping.
    """
    if not isinstance(bias, Mapping):
        raise TypeError(f"logit_bias={bias!r:.60}: must be a dict of tokens and numbers")
    row = np.zeros(n_vocab, np.float32)
    for key, value in bias.items():
        token = int(key)
        if not 0 <= token < n_vocab:
            raise ValueError(f"logit_bias: no token {token} in a vocabulary of {n_vocab}")
        row[token] = float(value)
        if np.isnan(row[token]):
            raise ValueError(f"logit_bias: {value} for token {token} is no number")
    return row
