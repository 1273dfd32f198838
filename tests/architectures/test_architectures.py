"""Every architecture computes what llama.cpp and the reference compute."""

import random
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import tiny_models
from engines import append, generated_logits, load, nmse, prompt_logits
from numpy.typing import NDArray
from reference import Text

from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Node
from ggufpy.graph.nodes import Affine, Norm
from ggufpy.runtime.engine import Engine, trace
from ggufpy.runtime.plan import make_plan
from models import FILES, Model, ModelOf, logits_of, model, model_of, parameters

__all__ = ["model", "model_of"]

TINY = sorted(tiny_models.MODELS)
TEXT = [int(t) for t in np.random.default_rng(5).integers(0, tiny_models.VOCAB, 110)]

both = pytest.mark.parametrize("model", [*TINY, *parameters(FILES)], indirect=True)
tiny = pytest.mark.parametrize("model", TINY, indirect=True)


def both_ways(engine: Engine, tokens: list[int]) -> Iterator[NDArray[np.float32]]:
    """The logits of a text as a prompt, then generated."""
    yield prompt_logits(engine, tokens)
    yield generated_logits(engine, tokens)


# ---- Against llama.cpp ----


@pytest.mark.parametrize("name", parameters(FILES))
def test_logits_are_llama_cpps(name: str, model_of: ModelOf) -> None:
    """However the text is cut: at once, in two, token by token, after a fork and a rewind."""
    model, (want, tokens) = model_of(name), logits_of(name)
    for got in both_ways(load(model.path, "fast", n_ctx=model.n_ctx), tokens):
        rows = [nmse(*pair) for pair in zip(got, want, strict=True)]
        assert np.median(rows) < 2e-4 and (model.chooses or nmse(got, want) < 2e-4)
    engine = load(model.path, "exact", n_seq=2, n_ctx=model.n_ctx)
    whole, single = both_ways(engine, tokens)
    assert nmse(whole, want) < (1e-6 if model.has_gelu else 1e-9)
    np.testing.assert_array_equal(single, whole)
    for cut in (1, 17, 39):
        sequence = engine.new_sequence()
        append(engine, sequence, tokens[:cut], logits="none")
        fork = sequence.fork()
        np.testing.assert_array_equal(append(engine, sequence, tokens[cut:]), whole[cut:])
        reached = sequence.rewind(cut + 1)
        np.testing.assert_array_equal(append(engine, sequence, tokens[reached:]), whole[reached:])
        np.testing.assert_array_equal(append(engine, fork, tokens[cut:]), whole[cut:])
        sequence.close()
        fork.close()


# ---- Against the reference ----


@tiny
def test_logits_are_the_references(model: Model) -> None:
    want = model.reference(TEXT)
    for got in both_ways(load(model.path), TEXT):
        assert nmse(got, want) < 1e-9


@tiny
@pytest.mark.parametrize("precision", ["fast", "int8"])
def test_numbers_of_eight_bits_cost_little(model: Model, precision: str) -> None:
    want = model.reference(TEXT)
    for got in both_ways(load(model.path, precision), TEXT):
        errors = ((got - want) ** 2).sum(axis=1) / (want**2).sum(axis=1)
        # Where a choice of experts turns, a row is another one.
        assert np.median(errors) < 2e-3 and (model.chooses or errors.max() < 1e-2)


@both
def test_passes_change_nothing(model: Model) -> None:
    with_all = load(model.path)
    file = GGUFFile.open(model.path)
    graph, found = trace(file)
    with_none = Engine(
        file,
        make_plan(graph.nodes, {"logits": found["logits"]}, ()),
        n_ctx=graph.context,
        n_seq=1,
        n_threads=2,
        n_batch=512,
        precision="exact",
        cache_types=(GGMLType.F32, GGMLType.F32),
    )
    for one, other in zip(both_ways(with_all, TEXT[:40]), both_ways(with_none, TEXT[:40]), strict=True):
        assert nmse(other, one) < 1e-6


# ---- These comparisons mean something ----


def spoilt(model: Model, tokens: list[int], most: int) -> Iterator[tuple[Node, float]]:
    """Nodes, and how much the logits change when the result of each alone is spoilt."""
    graph, logits = model.traced
    whole = Text(model.tensors, tokens)
    whole.run(graph.nodes)
    count = len(graph.nodes)
    for i in random.Random(count).sample(range(count), min(most, count)):
        node = graph.nodes[i]
        other = replace(whole, disturbed=node, values=dict(whole.values))
        other.run(graph.nodes[i:])
        yield node, nmse(other[logits], whole[logits])


@tiny
def test_each_op_matters(model: Model) -> None:
    for node, change in spoilt(model, TEXT[:12], most=1000):
        assert change > 1e-6, node


@pytest.mark.parametrize("model", parameters(FILES), indirect=True)
def test_some_ops_of_llama_cpps_files_matter(model: Model) -> None:
    for node, change in spoilt(model, TEXT[:5], most=6):
        assert change > 1e-9, node


def changed(node: Node) -> Iterator[Node]:
    """The node with one parameter changed, for each parameter that does something."""
    for name in (field.name for field in fields(node)):
        values: list[Any] = []
        match getattr(node, name):
            case bool() if getattr(node, "gating", "") == "chosen":
                pass  # these weights sum to 1 anyway
            case bool(value) if name not in ("picks", "per_head"):
                values = [not value]
            case float(value) if np.isfinite(value) and value not in (0.0, 1.0) and name != "epsilon":
                values = [value * 1.2]
            case int(value) if name == "window":
                values = [value - 1, value + 1]
            case str() if name in ("bias", "sinks", "factors"):
                values = [None]
        for value in values:
            changes: dict[str, Any] = {name: value}
            yield replace(node, **changes)


@tiny
def test_each_parameter_matters(model: Model) -> None:
    graph, logits = model.traced
    want = model.reference(TEXT)
    before_norms = {node.x for node in graph.nodes if isinstance(node, Norm)}
    for i, node in enumerate(graph.nodes):
        if isinstance(node, Affine) and node.outputs[0] in before_norms:
            continue  # a norm takes a factor back
        for other in changed(node):
            text = Text(model.tensors, TEXT)
            text.run([*graph.nodes[:i], other, *graph.nodes[i + 1 :]])
            assert nmse(text[logits], want) > 1e-6, other


@tiny
def test_early_tokens_matter(model: Model) -> None:
    want, got = model.reference(TEXT[:9]), model.reference([TEXT[0] + 1, *TEXT[1:9]])
    assert nmse(got[-1], want[-1]) > 1e-3
