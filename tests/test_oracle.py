"""The oracle itself: that it answers sensibly, so that a difference elsewhere is the other side's fault."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import Chain, Oracle, dequantize, needs_oracle, oracle_probabilities, oracle_sample, quantize

from ggufpy.gguf.types import GGMLType

pytestmark = needs_oracle

# Largest error of a rounded weight, relative to the largest weight of its block.
LARGEST_ERROR = {
    GGMLType.F32: 0.0,
    GGMLType.F16: 2**-11,
    GGMLType.BF16: 2**-8,
    GGMLType.Q8_0: 1 / 127,
    GGMLType.Q6_K: 1 / 16,
    GGMLType.Q5_0: 1 / 15,
    GGMLType.Q5_1: 1 / 15,
    GGMLType.Q5_K: 1 / 8,
    GGMLType.Q4_0: 1 / 7,
    GGMLType.Q4_1: 1 / 7,
    GGMLType.Q4_K: 1 / 5,
    GGMLType.Q3_K: 1 / 3,
    GGMLType.Q2_K: 1 / 2,
}


@pytest.fixture(scope="module")
def weights() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(3, 512)).astype(np.float32)


@pytest.fixture(scope="module")
def logits() -> NDArray[np.float32]:
    return (3 * np.random.default_rng(2).normal(size=1000)).astype(np.float32)


@pytest.mark.parametrize("kind", LARGEST_ERROR, ids=lambda kind: kind.label)
def test_blocks_come_back_as_what_went_in(kind: GGMLType, weights: NDArray[np.float32]) -> None:
    blocks = quantize(weights, kind)
    assert len(blocks) == 3 * kind.row_bytes(512)
    back = dequantize(blocks, kind, weights.size).reshape(weights.shape)
    assert np.abs(back - weights).max() <= LARGEST_ERROR[kind] * np.abs(weights).max()


def test_an_imatrix_changes_the_blocks(weights: NDArray[np.float32]) -> None:
    importance = np.linspace(0.01, 10, 512, dtype=np.float32)
    assert quantize(weights, GGMLType.Q4_K) != quantize(weights, GGMLType.Q4_K, importance)


def test_dequantize_refuses_the_wrong_number_of_bytes() -> None:
    with pytest.raises(ValueError, match="32 weights are 34 bytes, not 33"):
        dequantize(bytes(33), GGMLType.Q8_0, 32)


def test_a_file_that_is_no_model_gives_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("not a model")
    with pytest.raises(RuntimeError, match="magic"):
        Oracle(path)


def test_draws_follow_the_mersenne_twister(logits: NDArray[np.float32]) -> None:
    twister = np.random.MT19937()
    twister._legacy_seeding(42)
    probabilities = oracle_probabilities(logits, Chain())
    running = np.cumsum(np.fromiter(probabilities.values(), np.float64))
    tokens = list(probabilities)
    for token in oracle_sample(logits, Chain(), seed=42, n=50):
        low, high = (int(word) for word in twister.random_raw(2))
        target = (low + (high << 32)) / 2**64
        assert token == tokens[int(np.searchsorted(running, target * running[-1]))]


def test_each_step_of_the_chain_leaves_the_right_tokens(logits: NDArray[np.float32]) -> None:
    order = np.argsort(-logits)
    p = np.exp((logits - logits.max()).astype(np.float64))
    p /= p.sum()
    assert list(oracle_probabilities(logits, Chain(top_k=7))) == order[:7].tolist()
    in_nucleus = int(np.searchsorted(np.cumsum(p[order]), 0.6)) + 1
    assert list(oracle_probabilities(logits, Chain(top_p=0.6))) == order[:in_nucleus].tolist()
    likely = set(np.flatnonzero(p >= 0.1 * p.max()).tolist())
    assert set(oracle_probabilities(logits, Chain(min_p=0.1))) == likely
    assert set(oracle_sample(logits, Chain(temp=0.0), seed=1, n=3)) == {int(order[0])}
    best = int(order[0])
    assert logits[best] > 0
    penalised = oracle_probabilities(logits, Chain(repeat_penalty=100.0), history=[best])
    assert penalised[best] < oracle_probabilities(logits, Chain())[best] / 100


@pytest.fixture(scope="module")
def eval_model(shared: Path) -> Path:
    return shared / "conformance" / "eval" / "pocket-wiki-7m-chat-q8_0.gguf"


def test_text_becomes_tokens_and_text_again(eval_model: Path) -> None:
    text = "The capital of France is  Paris — naïve 東京."
    with Oracle(eval_model, vocab_only=True) as oracle:
        tokens = oracle.tokenize(text)
        assert b"".join(map(oracle.piece, tokens)).decode() == text
        assert oracle.detokenize(tokens).decode() == text
        marked = oracle.tokenize("<|im_end|>", parse_special=True)
        assert len(marked) == 1
        assert oracle.is_eog(marked[0])
        assert oracle.piece(marked[0]) == b""
        assert oracle.piece(marked[0], special=True) == b"<|im_end|>"
        assert len(oracle.tokenize("<|im_end|>")) > 1


def test_greedy_text_agrees_with_the_logits_of_one_batch(eval_model: Path) -> None:
    with Oracle(eval_model, kv_f32=True) as oracle:
        prompt = oracle.tokenize("The capital of France is")
        answer = oracle.greedy(prompt, 16)
        best = oracle.logits(prompt + answer).argmax(axis=1)
    assert best[len(prompt) - 1 : -1].tolist() == answer


def test_perplexity_is_near_the_reference(eval_model: Path, shared: Path) -> None:
    with Oracle(eval_model) as oracle:
        text = (shared / "eval" / "wiki.test.raw").read_bytes()[:6000]
        tokens = oracle.tokenize(text)[:512]
        rows = oracle.logits(tokens)[256:-1].astype(np.float64)
    losses = np.logaddexp.reduce(rows, axis=1) - rows[np.arange(255), tokens[257:]]
    assert 40 < np.exp(losses.mean()) < 120
