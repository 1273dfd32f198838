"""Choosing the next token outside the C sampler: logits processors, biases, log-probabilities."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ggufpy.generate.completion import END, Pick
from ggufpy.generate.sampler import Sampler, SamplingParams
from ggufpy.generate.transcript import Transcript

if TYPE_CHECKING:
    from numpy.typing import NDArray

# (token ids so far, logits of the next token) -> logits; as in llama-cpp-python and transformers.
LogitsProcessor = Callable[["NDArray[np.intc]", "NDArray[np.float32]"], "NDArray[np.float32]"]
StoppingCriterion = Callable[["NDArray[np.intc]", "NDArray[np.float32]"], bool]


Processors = LogitsProcessor | Sequence[LogitsProcessor]
Criteria = StoppingCriterion | Sequence[StoppingCriterion]


def make_pick(
    n_vocab: int,
    params: SamplingParams,
    *,
    typical_p: float = 1.0,
    logits_processor: Processors | None = None,
    logit_bias: Mapping[int, float] | None = None,
    stopping_criteria: Criteria | None = None,
) -> Pick:
    """Choose tokens in C where that does, in NumPy where it does not.

    Raises ValueError for a biased token that the vocabulary does not have.
    """
    bias = {int(token): float(value) for token, value in (logit_bias or {}).items()}
    for token in bias:
        if not 0 <= token < n_vocab:
            raise ValueError(f"logit_bias: no token {token} in a vocabulary of {n_vocab}")
    pick: Pick
    if typical_p < 1 or logits_processor or bias:
        pick = NumpyPick(params, processors=_listed(logits_processor), bias=bias, typical_p=typical_p)
    else:
        pick = _in_c(Sampler(params))
    return stopping(pick, _listed(stopping_criteria)) if stopping_criteria else pick


def _in_c(sampler: Sampler) -> Pick:
    return lambda transcript: transcript.sample(sampler)


class NumpyPick:
    """Samples in NumPy, in llama-cpp-python's order, what the C sampler has no means for.

    processors, then bias (added to the logits), then penalties over the tokens picked so far, top-k,
    typical-p, top-p, min-p, temperature. typical_p: 1 is off.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        processors: Sequence[LogitsProcessor] = (),
        bias: Mapping[int, float] | None = None,
        typical_p: float = 1.0,
    ) -> None:
        self._params = params
        self._processors = processors
        self._bias = dict(bias or {})
        self._typical_p = typical_p
        self._random = random.Random(params.seed)
        self._picked: list[int] = []

    def __call__(self, transcript: Transcript) -> int:
        """Choose a token, and remember it for the penalties."""
        logits = transcript.logits()
        ids = np.array(transcript.tokens, np.intc)
        for process in self._processors:
            logits = np.asarray(process(ids, logits), np.float32)
        for token, bias in self._bias.items():
            logits[token] += bias
        self._penalize(logits)
        token = int(np.argmax(logits)) if self._params.temp <= 0 else self._draw(logits)
        self._picked.append(token)
        return token

    def _penalize(self, logits: NDArray[np.float32]) -> None:
        params = self._params
        recent = self._picked[-params.repeat_last_n :] if params.repeat_last_n else []
        for token, count in Counter(recent).items():
            logit = logits[token]
            logit = logit * params.repeat_penalty if logit <= 0 else logit / params.repeat_penalty
            logits[token] = logit - count * params.frequency_penalty - params.presence_penalty

    def _draw(self, logits: NDArray[np.float32]) -> int:
        params = self._params
        if not np.isfinite(logits.max()):
            raise ValueError("no token left to choose: the logits are all -inf, or not numbers")
        order = np.argsort(-logits, kind="stable")
        if params.top_k > 0:
            order = order[: params.top_k]
        if self._typical_p < 1:
            order = _typical(order, _softmax(logits[order]), self._typical_p)
        p = _softmax(logits[order])
        if params.top_p < 1:
            # Up to and with the token that reaches top_p.
            order = order[: int(np.searchsorted(np.cumsum(p), params.top_p)) + 1]
        order = order[logits[order] >= logits[order[0]] + np.log(max(params.min_p, 1e-30))]
        cumulative = np.cumsum(_softmax(logits[order] / params.temp))
        drawn = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(order[min(drawn, len(order) - 1)])


def _typical(order: NDArray[np.intp], p: NDArray[np.float64], typical_p: float) -> NDArray[np.intp]:
    """Keep the tokens whose surprise is nearest to the entropy, until they have `typical_p` together."""
    surprise = -np.log(np.maximum(p, 1e-300))
    near = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
    kept = near[: int(np.searchsorted(np.cumsum(p[near]), typical_p)) + 1]
    return order[np.sort(kept)]


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    p = np.exp(logits.astype(np.float64) - float(logits.max()))
    normalized: NDArray[np.float64] = p / p.sum()
    return normalized


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-probabilities along the last axis."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _listed(items: Any) -> Sequence[Any]:
    """llama-cpp-python's lists of processors and criteria, and single ones."""
    if items is None:
        return []
    return items if isinstance(items, Sequence) else [items]


def stopping(pick: Pick, criteria: Sequence[StoppingCriterion]) -> Pick:
    """End the text when a criterion says so of the tokens so far and the logits of the next."""

    def checked(transcript: Transcript) -> int:
        token = pick(transcript)
        ids = np.array(transcript.tokens, np.intc)
        logits = transcript.logits()
        return END if any(criterion(ids, logits) for criterion in criteria) else token

    return checked


@dataclass(frozen=True)
class TokenLogprob:
    """A chosen token, its log-probability, and the likeliest tokens with theirs, best first."""

    token: int
    logprob: float
    top: list[tuple[int, float]]

    @classmethod
    def of(cls, token: int, logits: NDArray[Any], top: int) -> TokenLogprob:
        """From a row of logits."""
        logprobs = log_softmax(logits)
        best = np.argsort(-logprobs, kind="stable")[:top]
        return cls(token, float(logprobs[token]), [(int(i), float(logprobs[i])) for i in best])


def recording(pick: Pick, top: int, record: list[TokenLogprob]) -> Pick:
    """Append the log-probability of each picked token to `record`, with the `top` likeliest."""

    def recorded(transcript: Transcript) -> int:
        token = pick(transcript)
        if token != END:
            logits = transcript.logits()
            record.append(TokenLogprob.of(token, logits, top))
        return token

    return recorded
