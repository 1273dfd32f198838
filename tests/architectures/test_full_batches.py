"""Batches and contexts that are full to the last row: nothing is lost, nobody writes on another's memory.

test_memory.py runs these tests at guard pages, too.
"""

import numpy as np
import pytest
import tiny_models
from engines import append, generated_logits, load, prompt_logits, step

from ggufpy.runtime.engine import Span
from models import Model, model, model_of

__all__ = ["model", "model_of"]

N_BATCH, N_CTX = 45, 96  # rows, no multiple of anything; places, whole pages
TEXT = [int(t) for t in np.random.default_rng(4).integers(0, tiny_models.VOCAB, N_CTX)]

each = pytest.mark.parametrize("model", sorted(tiny_models.MODELS), indirect=True)
precisions = pytest.mark.parametrize("precision", ["exact", "fast", "int8"])


@each
@precisions
def test_prompts_fill_batches(model: Model, precision: str) -> None:
    want = prompt_logits(load(model.path, precision), TEXT)
    engine = load(model.path, precision, n_batch=N_BATCH, n_ctx=N_CTX, n_seq=3)
    for _ in range(3):  # the last uses the last pages and slots
        np.testing.assert_array_equal(append(engine, engine.new_sequence(), TEXT), want)


@each
@precisions
def test_generated_tokens_fill_batches(model: Model, precision: str) -> None:
    want = generated_logits(load(model.path, precision), TEXT)
    engine = load(model.path, precision, n_batch=N_BATCH, n_ctx=N_CTX)
    np.testing.assert_array_equal(append(engine, engine.new_sequence(), TEXT, generating=True), want)


@each
@precisions
@pytest.mark.parametrize("n_prompt", [1, 20, 44])
def test_both_fill_a_batch(model: Model, precision: str, n_prompt: int) -> None:
    engine = load(model.path, precision, n_batch=N_BATCH, n_ctx=N_CTX, n_seq=2)
    lengths = (n_prompt, N_BATCH - n_prompt)
    alone, together = (
        [
            Span(engine.new_sequence(), TEXT[:n], generating, "all")
            for n, generating in zip(lengths, (False, True), strict=True)
        ]
        for _ in range(2)
    )
    want = [step(engine, [span])[0] for span in alone]
    for span in alone:
        span.sequence.close()
    for got, rows in zip(step(engine, together), want, strict=True):
        np.testing.assert_array_equal(got, rows)
