"""The sampler draws what llama.cpp's default chain draws, token for token."""

from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import Chain, needs_oracle, oracle_sample

from ggufpy.generate.sampler import Sampler, SamplingParams

N_VOCAB = 500
HISTORY = [3, 7, 7, 499, 3, 3, 12, 80]


def logits() -> NDArray[np.float32]:
    return 3 * np.random.default_rng(11).standard_normal(N_VOCAB, np.float32)


def draw(
    params: SamplingParams, n: int, history: list[int], values: NDArray[np.float32] | None = None
) -> list[int]:
    sampler = Sampler(params)
    for token in history:
        sampler.accept(token)
    row = logits() if values is None else values
    return [sampler.draw(row) for _ in range(n)]


@needs_oracle
@pytest.mark.parametrize(
    "chain",
    [
        Chain(),
        Chain(temp=0.3),
        Chain(top_k=5),
        Chain(top_p=0.8),
        Chain(min_p=0.1),
        Chain(repeat_penalty=1.3),
        Chain(repeat_penalty=1.3, repeat_last_n=3),
        Chain(frequency_penalty=0.7, presence_penalty=0.4),
        Chain(top_k=40, top_p=0.95, min_p=0.05, temp=0.8),
        Chain(top_k=20, top_p=0.9, min_p=0.02, temp=1.4, repeat_penalty=1.1, frequency_penalty=0.2),
    ],
    ids=str,
)
def test_draws_what_llama_cpp_draws(chain: Chain) -> None:
    want = oracle_sample(logits(), chain, 42, 200, HISTORY)
    assert draw(SamplingParams(**asdict(chain), seed=42), 200, HISTORY) == want


def test_greedy_takes_the_first_of_the_best() -> None:
    values = np.zeros(N_VOCAB, np.float32)
    values[[17, 300]] = 2.0
    assert draw(SamplingParams(temp=0.0), 3, [], values) == [17, 17, 17]
    assert draw(SamplingParams(temp=0.0, presence_penalty=1.0), 3, [], values) == [17, 300, 17]


def test_seeds() -> None:
    assert draw(SamplingParams(temp=2.0, seed=5), 50, []) == draw(SamplingParams(temp=2.0, seed=5), 50, [])
    assert draw(SamplingParams(temp=2.0, seed=5), 50, []) != draw(SamplingParams(temp=2.0, seed=6), 50, [])
    assert draw(SamplingParams(temp=2.0), 50, []) != draw(SamplingParams(temp=2.0), 50, [])


def test_any_top_k_will_do() -> None:
    for top_k in (-(2**40), 2**40):
        assert draw(SamplingParams(top_k=top_k, seed=5), 5, []) == draw(
            SamplingParams(top_k=0, seed=5), 5, []
        )


def test_reset_starts_anew() -> None:
    sampler = Sampler(SamplingParams(seed=9, repeat_penalty=2.0))
    row = logits()
    first = [sampler.draw(row) for _ in range(20)]
    sampler.reset()
    assert [sampler.draw(row) for _ in range(20)] == first


def test_extreme_logits_give_a_token() -> None:
    for values in (np.full(N_VOCAB, -np.inf), np.full(N_VOCAB, np.nan), np.full(N_VOCAB, 1e38)):
        tokens = draw(SamplingParams(seed=1), 5, HISTORY, values.astype(np.float32))
        assert all(0 <= token < N_VOCAB for token in tokens)


def test_logits_are_left_alone() -> None:
    values = logits()
    draw(SamplingParams(seed=1, repeat_penalty=1.5), 5, HISTORY, values)
    np.testing.assert_array_equal(values, logits())
