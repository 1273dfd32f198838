"""Transcripts of one engine: logits of their own, errors of their own."""

from __future__ import annotations

import random

import numpy as np
import pytest
import random_llama
from fakes import FakeEngine, as_engine
from random_llama import TOKENS

from ggufpy.errors import ContextError, GgufpyError
from ggufpy.generate.sampler import Sampler, SamplingParams
from ggufpy.generate.transcript import Transcript
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine

GREEDY = SamplingParams(temp=0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    path = tmp_path_factory.mktemp("transcript") / "model.gguf"
    return GGUFFile.open(random_llama.write(path, random_llama.arrays()))


def next_letter(tokens: list[int]) -> int:
    return tokens[-1] + 1


@pytest.mark.parametrize("keep_logits", [False, True])
@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_logits_stay_those_of_the_own_text(file: GGUFFile, precision: str, keep_logits: bool) -> None:
    engine = Engine.load(file, n_ctx=64, n_seq=2, n_threads=1, precision=precision)
    one, other = Transcript(engine, keep_logits=keep_logits), Transcript(engine)
    for tokens in (TOKENS[:40], [7]):
        one.extend(tokens)
        logits, token = one.logits(), one.sample(Sampler(GREEDY))
        other.append(3)
        np.testing.assert_array_equal(one.logits(), logits)
        other.append(4)
        assert one.sample(Sampler(GREEDY)) == token == logits.argmax()
        other.extend([5, 6])
        np.testing.assert_array_equal(one.scores[-1], logits)


def test_logits_are_not_computed_again_because_of_other_texts() -> None:
    engine = FakeEngine(next_letter)
    one, other = Transcript(as_engine(engine)), Transcript(as_engine(engine))
    one.prefill([1, 2, 3])
    one.append(4)
    assert one.logits().argmax() == one.sample(Sampler(GREEDY)) == one.scores[-1].argmax() == 5
    other.prefill([50, 51])
    copy = one.fork()
    one.append(20)
    assert (copy.sample(Sampler(GREEDY)), copy.tokens) == (5, [1, 2, 3, 4])
    assert (one.sample(Sampler(GREEDY)), other.sample(Sampler(GREEDY))) == (21, 52)
    assert engine.evaluated == [([1, 2, 3], True), ([4], True), ([50, 51], True), ([20], True)]


def test_logits_are_the_callers_own() -> None:
    transcript = Transcript(as_engine(FakeEngine(next_letter)))
    transcript.prefill([1, 2])
    transcript.logits()[:] = 0
    assert transcript.logits().argmax() == transcript.scores[-1].argmax() == 3


@pytest.mark.parametrize("keep_logits", [False, True])
def test_what_does_not_fit_changes_nothing(keep_logits: bool) -> None:
    engine = FakeEngine(next_letter, n_ctx=3)
    transcript = Transcript(as_engine(engine), keep_logits=keep_logits)
    transcript.extend([1, 2])
    for tokens in ([3, 4], [999]):
        with pytest.raises(ValueError):
            transcript.extend(tokens)
        assert transcript.sample(Sampler(GREEDY)) == 3 and transcript.tokens == [1, 2]
    assert engine.evaluated == [([1, 2], True)]


def test_logits_after_truncation_and_after_nothing() -> None:
    transcript = Transcript(as_engine(FakeEngine(next_letter)))
    for read in (lambda: transcript.logits(), lambda: transcript.sample(Sampler(GREEDY))):
        with pytest.raises(GgufpyError, match="nothing has been evaluated yet"):
            read()
    transcript.extend([1, 2, 3])
    transcript.extend([])
    assert transcript.logits().argmax() == 4
    transcript.truncate(2)
    assert transcript.logits().argmax() == 3 and transcript.tokens == [1, 2]


def test_logits_after_an_interrupt() -> None:
    engine = FakeEngine(next_letter)
    transcript = Transcript(as_engine(engine))
    transcript.extend([1, 2])

    def interrupted(tokens: list[int]) -> int:
        raise KeyboardInterrupt

    engine.follow = interrupted
    with pytest.raises(KeyboardInterrupt):
        transcript.extend([9, 10])
    engine.follow = next_letter
    assert transcript.sample(Sampler(GREEDY)) == transcript.tokens[-1] + 1


def test_a_closed_transcript_says_so() -> None:
    transcript = Transcript(as_engine(FakeEngine(next_letter)))
    transcript.extend([1, 2])
    transcript.close()
    transcript.close()
    for use in (lambda: transcript.append(3), lambda: transcript.prefill([1]), lambda: transcript.logits()):
        with pytest.raises(GgufpyError, match="was closed"):
            use()


def test_errors_of_room(file: GGUFFile) -> None:
    engine = Engine.load(file, n_ctx=64, n_seq=2, n_threads=1)
    texts = [Transcript(engine, room_for=2) for _ in range(3)]
    for text in texts[:2]:
        text.prefill(TOKENS[:40])
    with pytest.raises(ContextError, match="more than 2 completions at once"):
        texts[2].prefill(TOKENS[:40])
    texts[0].close()
    texts[2].prefill(TOKENS[:40])
    too_long = "the text has 65 tokens, the context holds 64; shorten it"
    for evaluate in (lambda: texts[2].extend([1] * 25), lambda: texts[2].prefill([1] * 65)):
        with pytest.raises(ContextError, match=too_long):
            evaluate()
        assert len(texts[2].tokens) == 40


@pytest.mark.parametrize("length, row_by_row", [(31, True), (32, False)])
def test_short_prompts_are_computed_row_by_row(length: int, row_by_row: bool) -> None:
    engine = FakeEngine(next_letter)
    Transcript(as_engine(engine)).prefill([1] * length)
    assert engine.evaluated == [([1] * length, row_by_row)]


@pytest.mark.parametrize("precision", ["fast", "int8"])
def test_what_follows_a_prompt_does_not_depend_on_the_past(file: GGUFFile, precision: str) -> None:
    engine = Engine.load(file, n_ctx=256, n_seq=2, n_threads=1, precision=precision)
    used = Transcript(engine, repeatable=True)
    draw = random.Random(1)
    for _ in range(30):
        prompt = [*used.tokens[: draw.randrange(100)], *draw.choices(TOKENS, k=draw.choice([1, 5, 40]))]
        fresh = Transcript(engine, repeatable=True)
        for transcript in (used, fresh):
            transcript.prefill(prompt)
            for token in TOKENS[:3]:
                transcript.append(token)
        np.testing.assert_array_equal(used.logits(), fresh.logits())
        fresh.close()


def test_only_tokens_of_the_same_regime_are_kept() -> None:
    engine = FakeEngine(next_letter)
    transcript = Transcript(as_engine(engine), repeatable=True)
    prompt = list(range(40))
    counts = [transcript.prefill(prompt), transcript.prefill(prompt)]
    transcript.append(40)
    counts += [transcript.prefill([*prompt, 40, 41]), transcript.prefill(prompt[:20])]
    assert counts == [40, 1, 2, 20]
    assert [generating for _, generating in engine.evaluated] == [False, False, True, False, True]
