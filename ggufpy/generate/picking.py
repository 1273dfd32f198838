"""Choosing the next token: what stands around the sampler, logits processors, criteria, log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ggufpy.generate.completion import END
from ggufpy.generate.sampler import Numbers, Sampler, SamplingParams, bias_row
from ggufpy.generate.transcript import Transcript

if TYPE_CHECKING:
    from numpy.typing import NDArray

# (token ids so far, logits of the next token) -> logits, or None if it changed them in place; as in
# llama-cpp-python and transformers.
LogitsProcessor = Callable[["NDArray[np.intc]", "NDArray[np.float32]"], "NDArray[np.float32] | None"]
StoppingCriterion = Callable[["NDArray[np.intc]", "NDArray[np.float32]"], bool]

# Chooses the token that follows a transcript; END ends the text.
Pick = Callable[[Transcript], int]

Processors = LogitsProcessor | Sequence[LogitsProcessor]
Criteria = StoppingCriterion | Sequence[StoppingCriterion]


class Sampling(Numbers, total=False):
    """How tokens are chosen.

    logit_bias: added to the logits of these tokens. logits_processor: changes the logits before that.
    """

    logit_bias: Mapping[int, float] | None
    logits_processor: Processors | None


def make_pick(
    n_vocab: int,
    *,
    temp: float,
    repeat_last_n: int,
    seed: int,
    stopping_criteria: Criteria | None = None,
    logit_bias: Mapping[int, float] | None = None,
    logits_processor: Processors | None = None,
    **numbers: Unpack[Numbers],
) -> Pick:
    """Choose tokens as llama-cpp-python's arguments say; see `Sampling` and `SamplingParams`.

    Raises ValueError for a biased token that the vocabulary does not have.
    """
    params = SamplingParams(temp=temp, repeat_last_n=repeat_last_n, seed=seed, **numbers)
    sampler = Sampler(params, bias=bias_row(n_vocab, logit_bias) if logit_bias else None)
    pick = processing(sampler, _listed(logits_processor)) if logits_processor else sampling(sampler)
    return stopping(pick, _listed(stopping_criteria)) if stopping_criteria else pick


def sampling(sampler: Sampler) -> Pick:
    """Draw from the logits as they are."""
    return lambda transcript: transcript.sample(sampler)


def processing(sampler: Sampler, processors: Sequence[LogitsProcessor]) -> Pick:
    """Draw from what `processors` make of a copy of the logits, in place if they return None.

    Raises ValueError for a result of another shape than (n_vocab,) or (1, n_vocab).
    """

    def processed(transcript: Transcript) -> int:
        logits = transcript.logits()
        shape = logits.shape
        ids = np.array(transcript.tokens, np.intc)
        for process in processors:
            result = process(ids, logits)
            if result is not None:
                logits = np.array(result, np.float32)  # a copy: the next one may write to it
            if logits.shape not in (shape, (1, *shape)):
                raise ValueError(f"a logits processor made {logits.shape} of logits of shape {shape}")
            logits = logits.reshape(shape)
        return sampler.draw(logits)

    return processed


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
