"""What an engine gives and takes beside logits from tokens: embeddings, rows, angles, taps, adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_bert
import random_llama
from engines import append, load, nmse
from numpy.typing import NDArray
from programs import Machine
from random_bert import CLS, INNER, LAST, MEAN, NONE, PLACES, RANK, VOCAB, WIDTH
from random_llama import TOKENS
from reference import compute, decoded

from ggufpy.errors import ContextError, FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.values import Value
from ggufpy.graph import Graph
from ggufpy.graph.adapters import Adapter, adapt
from ggufpy.graph.nodes import Linear
from ggufpy.runtime.batch import Span, Wanted
from ggufpy.runtime.engine import Engine, trace
from ggufpy.runtime.passes import gates, products_tapped, residuals, squares_tapped, together

Arrays = dict[str, NDArray[np.float32]]

TEXTS = [[int(t) % VOCAB for t in TOKENS[:n]] for n in (40, 7, 23)]


def texts_of(engine: Engine, wanted: Wanted) -> list[NDArray[np.float32]]:
    result = engine.step([Span(engine.new_sequence(), text, logits=wanted) for text in TEXTS])
    return [result.rows(i) for i in range(len(TEXTS))]


@pytest.mark.parametrize("pooling", [NONE, MEAN, CLS, LAST])
def test_bert_equals_the_reference(tmp_path: Path, pooling: int) -> None:
    path = random_bert.write(tmp_path / "bert.gguf", pooling)
    engine = load(path, outputs=("embeddings",), n_seq=3)
    file = GGUFFile.open(path)
    graph, outputs = trace(file)
    tensors = decoded(file.tensors)
    for text, rows in zip(TEXTS, texts_of(engine, "all" if pooling == NONE else "last"), strict=True):
        want = compute(graph.nodes, outputs["embeddings"], tensors, text)
        want = want[-1:] if pooling == LAST else want
        assert rows.shape == want.shape == ((1 if pooling else len(text)), WIDTH)
        assert nmse(rows, want) < 1e-10


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("head", ["a projection", "two layers"])
def test_classifiers(tmp_path: Path, head: str, mean: bool, causal: bool) -> None:
    """Of the first token, of the last where no token sees what follows, or of the mean of all."""
    keys: dict[str, Value] = {"classifier.pooling_type": MEAN} if mean else {}
    keys |= {"attention.causal": causal, "classifier.output_labels": ["a", "b", "c"]}
    path = random_bert.write(tmp_path / "bert.gguf", RANK, head, **keys)
    tensors = decoded(GGUFFile.open(path).tensors)
    engine = load(path, outputs=("embeddings",), changes={"pooling_type": NONE}, n_seq=3)
    scores = texts_of(load(path, outputs=("embeddings",), n_seq=3), "last")
    for got, rows in zip(scores, texts_of(engine, "all"), strict=True):
        want = rows.mean(axis=0) if mean else rows[-1 if causal else 0]
        if head == "two layers":
            want = np.tanh(tensors["cls.weight"] @ want + tensors["cls.bias"])
        want = tensors["cls.output.weight"] @ want + tensors["cls.output.bias"]
        assert got.shape == (1, 3) and nmse(got[0], want) < 1e-9


def test_labels_are_a_list(tmp_path: Path) -> None:
    path = random_bert.write(tmp_path / "bert.gguf", RANK, "a projection", **{"classifier.output_labels": 3})
    with pytest.raises(FormatError, match=r"output_labels' is 3, must be a list of names"):
        load(path, outputs=("embeddings",))


def test_a_model_without_a_classifier_cannot_rank(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"no classifier .* choose another pooling"):
        load(random_bert.write(tmp_path / "bert.gguf", RANK), outputs=("embeddings",))


def test_texts_that_see_all_of_themselves_are_not_cut(tmp_path: Path) -> None:
    path = random_bert.write(tmp_path / "bert.gguf", MEAN)
    small, large = (load(path, outputs=("embeddings",), n_seq=3, n_batch=n) for n in (41, 80))
    for some, others in zip(texts_of(small, "last"), texts_of(large, "last"), strict=True):
        np.testing.assert_array_equal(some, others)
    with pytest.raises(ContextError, match="a text of 42 tokens must be in one batch, which holds 41"):
        small.step([Span(small.new_sequence(), [1] * 42)])


def test_texts_of_which_there_is_one_row_are_not_cut(small: Path) -> None:
    engine = load(small, outputs=("embeddings",), changes={"pooling_type": MEAN}, n_batch=41)
    with pytest.raises(ContextError, match="a text of 42 tokens must be in one batch"):
        engine.step([Span(engine.new_sequence(), [1] * 42)])


def test_places_limit_the_context(tmp_path: Path) -> None:
    engine = load(random_bert.write(tmp_path / "bert.gguf", MEAN), outputs=("embeddings",), n_ctx=10 * PLACES)
    assert engine.n_ctx == PLACES


def test_an_output_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="has no logits; it gives embeddings"):
        load(random_bert.write(tmp_path / "bert.gguf", MEAN))


def test_several_outputs_come_from_one_step(small: Path) -> None:
    both = load(small, outputs=("logits", "embeddings"))
    alone = load(small)
    result = both.step([Span(both.new_sequence(), TOKENS[:40], logits="all")])
    np.testing.assert_array_equal(result.rows(0), append(alone, alone.new_sequence(), TOKENS[:40]))
    hidden = result.rows(0, "embeddings").astype(np.float64)
    output = random_llama.arrays()["output.weight"].astype(np.float64)
    assert nmse(result.rows(0), hidden @ output.T) < 1e-11


@pytest.mark.parametrize("precision", ["exact", "int8"])
def test_rows_in_place_of_tokens_give_what_the_tokens_give(small: Path, precision: str) -> None:
    engine = load(small, precision, n_seq=2, n_batch=16)
    want = append(engine, engine.new_sequence(), TOKENS[:50])
    rows = random_llama.arrays()["token_embd.weight"][TOKENS[:50]]
    other = engine.new_sequence()
    first = engine.step([Span(other, TOKENS[:20], logits="all", inputs=rows[:20])]).rows(0)
    second = engine.step([Span(other, TOKENS[20:50], logits="all")]).rows(0)
    np.testing.assert_array_equal(np.concatenate([first, second]), want)
    with pytest.raises(ValueError, match=r"inputs have shape \(50, \d+\), must have \(49, \d+\)"):
        engine.step([Span(engine.new_sequence(), TOKENS[:49], inputs=rows)])


def test_angles_are_apart_from_places(small: Path) -> None:
    """RoPE depends on differences only: moved by 1000, all angles give the same but for the last bits."""
    engine = load(small, n_seq=3)
    want = append(engine, engine.new_sequence(), TOKENS[:50])
    angles = np.tile(np.arange(50, dtype=np.int32), (4, 1))
    moved = engine.step([Span(engine.new_sequence(), TOKENS[:50], logits="all", angles=angles + 1000)])
    assert nmse(moved.rows(0), want) < 1e-8
    other = engine.step([Span(engine.new_sequence(), TOKENS[:50], logits="all", angles=angles * 3)])
    assert nmse(other.rows(0), want) > 1e-4


# ---- Taps ----


def machine(folder: Path, arrays: Arrays, **options: Any) -> Machine:
    def build(g: Graph) -> Any:
        x = g.embed("token_embd", WIDTH)
        experts = g.route(g.linear(x, "gate"), 2)
        y = g.linear_of_experts(x, "up", experts).apply("silu")
        return g.linear(g.total(g.linear_of_experts(y, "down", experts) * experts.weights), "output")

    return Machine(folder, build, arrays, max_rows=48, **options)


def expert_arrays() -> Arrays:
    rng = np.random.default_rng(5)
    shapes = {"token_embd": (VOCAB, WIDTH), "gate": (4, WIDTH), "up": (4, INNER, WIDTH)}
    shapes |= {"down": (4, WIDTH, INNER), "output": (8, WIDTH)}
    return {f"{name}.weight": rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("precision", ["exact", "int8"])
def test_taps_sum_what_linears_read(tmp_path: Path, products: bool, precision: str) -> None:
    tap = products_tapped if products else squares_tapped
    tapped = machine(tmp_path, expert_arrays(), passes=(gates, residuals, together, tap), precision=precision)
    spans = [Span(tapped.new_sequence(), text) for text in TEXTS[:2]]
    with_taps = tapped.run(spans)
    plain = machine(tmp_path, expert_arrays(), precision=precision)
    np.testing.assert_array_equal(with_taps, plain.run([Span(plain.new_sequence(), t) for t in TEXTS[:2]]))

    x = expert_arrays()["token_embd.weight"][TEXTS[0] + TEXTS[1]].astype(np.float64)
    taps = tapped.program.taps
    want = x.T @ x if products else (x**2).sum(axis=0)
    np.testing.assert_allclose(taps["gate.weight"].sums[0], want, rtol=1e-12, atol=1e-12)
    assert taps["gate.weight"].rows.tolist() == [len(x)]
    chosen = np.argsort(-(x @ expert_arrays()["gate.weight"].T.astype(np.float64)), axis=1)[:, :2]
    for expert in range(4):
        rows = x[(chosen == expert).any(axis=1)]
        want = rows.T @ rows if products else (rows**2).sum(axis=0)
        np.testing.assert_allclose(taps["up.weight"].sums[expert], want, rtol=1e-12, atol=1e-12)
        assert taps["up.weight"].rows[expert] == taps["down.weight"].rows[expert] == len(rows)
    assert taps["down.weight"].sums.shape == (4, INNER, INNER)[: 3 if products else 2]


# ---- Adapters ----


def test_an_adapter_equals_the_merged_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    arrays = expert_arrays()
    down, up = rng.standard_normal((3, WIDTH), np.float32), rng.standard_normal((8, 3), np.float32)
    name = "output.weight"
    merged = arrays | {name: arrays[name] + np.float32(0.25) * (up @ down)}

    def build(g: Graph) -> Any:
        output = g.linear(g.embed("token_embd", WIDTH), "output")
        adapt(g, [Adapter(name, "down", "up", 3, 0.25)])
        return output

    def plainly(g: Graph) -> Any:
        return g.linear(g.embed("token_embd", WIDTH), "output")

    adapted = Machine(tmp_path, build, arrays | {"down": down, "up": up})
    want = (plain := Machine(tmp_path, plainly, merged)).run(
        [Span(plain.new_sequence(), TEXTS[0], logits="all")]
    )
    got = adapted.run([Span(adapted.new_sequence(), TEXTS[0], logits="all")])
    assert nmse(got, want) < 1e-11
    assert sum(isinstance(node, Linear) for node in adapted.plan.nodes) == 3


def test_an_adapter_of_nothing_is_refused(small: Path) -> None:
    graph, _ = trace(GGUFFile.open(small))
    with pytest.raises(UnsupportedModelError, match=r"an adapter is for 'blk\.9\.attn_q\.weight'"):
        adapt(graph, [Adapter("blk.9.attn_q.weight", "down", "up", 3, 1.0)])
