"""The sampler draws what llama.cpp's default chain draws, token for token."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import Chain, needs_oracle, oracle_probabilities, oracle_sample

from ggufpy._kernels import ffi, lib
from ggufpy.errors import SamplingError
from ggufpy.generate.sampler import Sampler, SamplingParams, bias_row

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
        Chain(typical_p=0.5),
        Chain(typical_p=0.9, temp=1.7),
        Chain(top_k=40, typical_p=0.7, top_p=0.95, min_p=0.05, temp=0.8),
        Chain(top_k=40, typical_p=0.9, top_p=0.5, temp=1.3),
        Chain(repeat_penalty=1.3),
        Chain(repeat_penalty=1.3, repeat_last_n=3),
        Chain(frequency_penalty=0.7, presence_penalty=0.4),
        Chain(top_k=40, top_p=0.95, min_p=0.05, temp=0.8),
        Chain(top_k=20, top_p=0.9, min_p=0.02, temp=1.4, repeat_penalty=1.1, frequency_penalty=0.2),
    ],
    ids=str,
)
def test_draws_what_llama_cpp_draws(chain: Chain) -> None:
    for row in (logits(), logits() / np.float32(3)):
        want = oracle_sample(row, chain, 42, 200, HISTORY)
        assert draw(SamplingParams(**asdict(chain), seed=42), 200, HISTORY, row) == want


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


# ---- What is kept on the edge: weights are powers of two, so that sums are exact ----

QUARTERS = dict.fromkeys((9, 40, 41, 300), 0.0)
HALVES = {7: 0.0, 8: 0.0}


def kept(heights: dict[int, float], **options: Any) -> list[int]:
    """Which tokens are drawn of those that have a logit."""
    values = np.full(N_VOCAB, -np.inf, np.float32)
    values[list(heights)] = list(heights.values())
    params = SamplingParams(**{"top_k": 0, "top_p": 1, "min_p": 0, "temp": 1, "seed": 3, **options})
    return sorted(set(draw(params, 200, [], values)))


@pytest.mark.parametrize(
    "heights, top_p, expected",
    [
        (HALVES, 0.5, [7]),
        (HALVES, np.nextafter(np.float32(0.5), np.float32(1)), [7, 8]),
        (QUARTERS, 0.25, [9]),
        (QUARTERS, 0.5, [9, 40]),
        (QUARTERS, 0.75, [9, 40, 41]),
        (QUARTERS, np.nextafter(np.float32(0.75), np.float32(1)), [9, 40, 41, 300]),
        (QUARTERS, 0.0, [9]),
    ],
)
def test_top_p_ends_with_the_token_that_reaches_it(
    heights: dict[int, float], top_p: float, expected: list[int]
) -> None:
    assert kept(heights, top_p=top_p) == expected


@pytest.mark.parametrize("typical_p, expected", [(0.25, 2), (0.5, 3), (0.75, 4), (0.4999, 2), (0.0, 1)])
def test_typical_p_ends_with_the_token_that_exceeds_it(typical_p: float, expected: int) -> None:
    assert kept(QUARTERS, typical_p=typical_p) == [9, 40, 41, 300][:expected]


def test_typical_p_prefers_tokens_of_typical_surprise() -> None:
    """Of 1/2, 1/4, 1/8 and 1/8 the entropy is 1.75 bits: 2 bits are nearest, then 1, then 3."""
    heights = {token: -bits * np.log(2) for token, bits in enumerate((1, 2, 3, 3))}
    for typical_p, expected in ((0.2, [1]), (0.3, [0, 1]), (0.7, [0, 1]), (0.8, [0, 1, 2])):
        assert kept(heights, typical_p=typical_p) == expected


def test_min_p_keeps_what_is_just_as_likely_as_it_must_be() -> None:
    assert kept({1: 2.0, 4: 2.0, 5: 1.9}, min_p=1) == [1, 4]
    edge = float(np.log(np.float32(0.25)))
    assert kept({1: 0.0, 4: edge, 5: float(np.nextafter(np.float32(edge), np.float32(-2)))}, min_p=0.25) == [
        1,
        4,
    ]
    assert kept({1: 2.0, 4: 1.9}, min_p=9) == [1]


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 5])
def test_top_k_takes_the_first_of_equal_tokens(top_k: int) -> None:
    assert kept(QUARTERS, top_k=top_k) == [9, 40, 41, 300][:top_k]
    assert kept(QUARTERS | {2: 1.0}, top_k=top_k) == sorted([2, 9, 40, 41, 300][:top_k])
    for repeat_penalty in (1, 2):  # looks at all tokens, and changes nothing
        everywhere = kept(dict.fromkeys(range(N_VOCAB), 0.0), top_k=top_k, repeat_penalty=repeat_penalty)
        assert everywhere == list(range(top_k))


@needs_oracle
@pytest.mark.parametrize(
    "chain", [Chain(typical_p=0.5), Chain(top_p=0.5), Chain(top_p=0.75), Chain(min_p=1)], ids=str
)
def test_llama_cpp_keeps_as_many_on_the_edge(chain: Chain) -> None:
    values = np.full(4, 1.5, np.float32)
    ours = set(draw(SamplingParams(**asdict(chain), seed=1), 200, [], values))
    assert len(ours) == len(oracle_probabilities(values, chain))  # of equal ones it takes any


# ---- What may be drawn ----

CHAINS = [
    {},
    {"top_k": 0},
    {"top_k": 0, "top_p": 1, "min_p": 0},
    {"typical_p": 0.6},
    {"temp": 0},
    {"repeat_penalty": 1.3},
    {"repeat_penalty": 1.3, "top_k": 0, "typical_p": 0.9},
    {"repeat_penalty": 1.3, "temp": 0},
]


@pytest.mark.parametrize("options", CHAINS, ids=str)
def test_a_bias_is_as_good_as_other_logits(options: dict[str, Any]) -> None:
    params = SamplingParams(**options, seed=8)
    bias = 5 * np.random.default_rng(2).standard_normal(N_VOCAB, np.float32)
    want = draw(params, 50, HISTORY, logits() + bias)
    assert drawn(Sampler(params, bias=bias), 50) == want
    plain = draw(params, 50, HISTORY)
    assert plain != want
    assert drawn(Sampler(params, bias=bias_row(N_VOCAB, {5: 0.0})), 50) == plain


@pytest.mark.parametrize("options", [*CHAINS, {"repeat_penalty": -2.0}], ids=str)
def test_what_is_masked_is_as_good_as_impossible(options: dict[str, Any]) -> None:
    params = SamplingParams(**options, seed=8)
    for allowed in (0.5, 0.01):
        mask = np.random.default_rng(4).random(N_VOCAB) < allowed
        want = draw(params, 50, HISTORY, np.where(mask, logits(), np.float32(-np.inf)))
        assert drawn(Sampler(params), 50, mask) == want
        assert all(mask[token] for token in want)
        nothing = np.where(mask, logits(), np.float32(np.nan))
        assert draw(params, 50, HISTORY, nothing) == want


@pytest.mark.parametrize("options", CHAINS, ids=str)
def test_infinite_logits_are_certain(options: dict[str, Any]) -> None:
    values = logits()
    values[33] = np.inf
    assert set(draw(SamplingParams(**options, seed=1), 20, [], values)) == {33}
    assert set(drawn(Sampler(SamplingParams(**options), bias=bias_row(N_VOCAB, {4: np.inf})), 5)) == {4}


@pytest.mark.parametrize("options", CHAINS, ids=str)
def test_extreme_logits_give_a_token(options: dict[str, Any]) -> None:
    for height in (1e38, -1e38, 0.0):
        values = np.full(N_VOCAB, height, np.float32)
        values[::2] *= -1
        tokens = draw(SamplingParams(**options, seed=1), 5, HISTORY, values)
        assert all(0 <= token < N_VOCAB for token in tokens)


@pytest.mark.parametrize("options", CHAINS, ids=str)
def test_nothing_left_to_draw_is_an_error(options: dict[str, Any]) -> None:
    sampler = Sampler(SamplingParams(**options))
    for height in (-np.inf, np.nan):
        with pytest.raises(SamplingError, match="no token can be drawn"):
            sampler.draw(np.full(N_VOCAB, height, np.float32))
    with pytest.raises(SamplingError, match="no token can be drawn"):
        sampler.draw(logits(), np.zeros(N_VOCAB, np.bool_))


def test_what_does_not_fit_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="the mask is for 499 tokens, the vocabulary has 500"):
        Sampler(SamplingParams()).draw(logits(), np.ones(N_VOCAB - 1, np.bool_))
    with pytest.raises(ValueError, match="the bias is for 501 tokens"):
        Sampler(SamplingParams(), bias=np.zeros(N_VOCAB + 1, np.float32)).draw(logits())
    for token in (-1, N_VOCAB):
        with pytest.raises(ValueError, match=f"logit_bias: no token {token} in a vocabulary of 500"):
            bias_row(N_VOCAB, {token: 1.0})
    with pytest.raises(ValueError, match="logit_bias: nan for token 3 is no number"):
        bias_row(N_VOCAB, {3: float("nan")})
    params = SamplingParams(repeat_penalty=1.5, seed=1)
    history = [-1, N_VOCAB, 2**40]  # of a larger vocabulary
    assert draw(params, 20, [*history, 3]) == draw(params, 20, [3])


@pytest.mark.parametrize("n, expected", [(0, 0), (1, 0), (3, 2), (9, 2)])
def test_penalties_look_at_the_end_of_a_longer_history(n: int, expected: int) -> None:
    row, history = np.array([3, 2.5, 2.4], np.float32), np.array([0, 1, 1], np.int32)
    choice = ffi.new("gg_choice *", {"n_vocab": row.size, "n_history": history.size})
    choice.logits, choice.history = ffi.from_buffer("float[]", row), ffi.from_buffer("int32_t[]", history)
    penalties = {"kind": lib.gg_find_stage(b"penalties"), "n": n, "value": (1, 0, 1)}
    stages = ffi.new("gg_stage[]", [penalties, {"kind": lib.gg_find_stage(b"temperature")}])
    assert lib.gg_sample(choice, stages, 2, ffi.new("gg_rng *"), ffi.new("gg_candidate[]", 3)) == expected


def test_unheard_of_stages_are_not_found() -> None:
    assert lib.gg_find_stage(b"top_q") == -1


def drawn(sampler: Sampler, n: int, mask: NDArray[np.bool_] | None = None) -> list[int]:
    for token in HISTORY:
        sampler.accept(token)
    return [sampler.draw(logits(), mask) for _ in range(n)]


def test_logits_are_left_alone() -> None:
    values = logits()
    draw(SamplingParams(seed=1, repeat_penalty=1.5), 5, HISTORY, values)
    np.testing.assert_array_equal(values, logits())
