"""A text's numbers are the same to the bit however it is cut, beside whom, and after what detours."""

import numpy as np
import pytest
import tiny_models
from engines import append, generated_logits, load, prompt_logits, step

from ggufpy.graph.nodes import Conv, DeltaRule, Keep, Scan
from ggufpy.runtime.engine import Engine, Span, Wanted
from models import Model, model, model_of

__all__ = ["model", "model_of"]

TINY = sorted(tiny_models.MODELS)
TEXT = [int(t) for t in np.random.default_rng(6).integers(0, tiny_models.VOCAB, 400)]

each = pytest.mark.parametrize("model", TINY, indirect=True)
invariant = pytest.mark.parametrize("precision", ["exact", "int8"])


@each
@invariant
def test_any_split_gives_the_same_bits(model: Model, precision: str) -> None:
    tokens = TEXT[:90]
    want = prompt_logits(load(model.path, precision), tokens)
    for n_batch in (1, 3, 7, 64):
        np.testing.assert_array_equal(
            prompt_logits(load(model.path, precision, n_batch=n_batch), tokens), want
        )
    np.testing.assert_array_equal(generated_logits(load(model.path, precision), tokens), want)
    np.testing.assert_array_equal(generated_logits(load(model.path, precision), tokens, 37), want[37:])


# Texts that share batches: tokens before and in the step, whether they are generated, which logits are
# wanted. Those with all logits wanted come after others on purpose.
TEXTS: list[tuple[int, int, bool, Wanted]] = [
    (5, 1, True, "last"),
    (0, 40, False, "last"),
    (33, 9, False, "all"),
    (0, 33, False, "all"),
    (70, 1, True, "all"),
    (40, 5, False, "none"),
    (20, 3, True, "all"),
    (12, 35, False, "last"),
]


def spans(engine: Engine) -> list[Span]:
    """The texts, each ready for its step."""
    made = []
    for i, (before, n, generating, logits) in enumerate(TEXTS):
        sequence = engine.new_sequence()
        if before:
            append(engine, sequence, TEXT[i : i + before], logits="none")
        made.append(Span(sequence, TEXT[i + before : i + before + n], generating, logits))
    return made


@each
@pytest.mark.parametrize("precision", ["exact", "fast", "int8"])
@pytest.mark.parametrize("n_batch", [16, 512])
def test_neighbours_do_not_change_a_bit(model: Model, precision: str, n_batch: int) -> None:
    engine = load(model.path, precision, n_seq=len(TEXTS), n_batch=n_batch)
    alone = [step(engine, [span])[0] for span in spans(engine)]
    together = step(engine, spans(engine))
    for (_, n, _, logits), got, want in zip(TEXTS, together, alone, strict=True):
        assert len(got) == {"all": n, "last": 1, "none": 0}[logits]
        np.testing.assert_array_equal(got, want)


@each
@invariant
def test_forks_and_rewinds_leave_the_same_bits(model: Model, precision: str) -> None:
    engine = load(model.path, precision, n_seq=3, n_batch=64, n_ctx=512)
    want = prompt_logits(engine, TEXT)
    first = engine.new_sequence()
    append(engine, first, TEXT[:300], logits="none")
    for token in TEXT[300:340]:
        append(engine, first, [token], generating=True)
    second = first.fork()
    append(engine, second, TEXT[:30])  # writes to the page that they share
    np.testing.assert_array_equal(append(engine, first, TEXT[340:360]), want[340:360])
    forgets = model.has(Conv, Scan, DeltaRule)
    slides = any(isinstance(node, Keep) and node.window for node in model.traced[0].nodes)
    for length in (340, 335, 310, 290, 100, 31, 0):
        reached = second.rewind(length)
        assert reached == length or (reached < length and (forgets or slides))
        assert reached >= 300 or length < 300  # the end of the prompt is a mark, and within what windows keep
        np.testing.assert_array_equal(
            append(engine, second, TEXT[reached : length + 7]), want[reached : length + 7]
        )
    np.testing.assert_array_equal(append(engine, first, TEXT[360:]), want[360:])
