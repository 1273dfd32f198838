"""Completions: fed by hand, by a writer, and several from one step."""

from __future__ import annotations

import threading

import pytest
from fakes import IM_END, FakeEngine, FakeTokenizer, as_engine, as_tokenizer, collect

from ggufpy.errors import ContextError
from ggufpy.generate.completion import END, Completion
from ggufpy.generate.picking import sampling
from ggufpy.generate.sampler import Sampler, SamplingParams
from ggufpy.generate.transcript import Transcript
from ggufpy.generate.writer import Writer
from ggufpy.runtime.engine import Span

GREEDY = SamplingParams(temp=0)


def alphabet(tokens: list[int]) -> int:
    """The next letter; after z the end."""
    return tokens[-1] + 1 if tokens[-1] < ord("z") else IM_END


def completion(stop: tuple[str, ...] = (), max_tokens: int | None = None) -> Completion:
    return Completion(as_tokenizer(FakeTokenizer()), stop=stop, max_tokens=max_tokens)


def writer(text: Completion, engine: FakeEngine) -> Writer:
    return Writer(text, Transcript(as_engine(engine)), sampling(Sampler(GREEDY)))


def feed(text: Completion, data: bytes) -> list[str]:
    return [text.feed(byte) for byte in data]


def test_text_comes_when_it_is_certain() -> None:
    text = completion(stop=("<end>",))
    assert feed(text, "é<enx<end>".encode()) == ["", "é", "", "", "", "<enx", "", "", "", "", ""]
    assert text.finish_reason == "stop" and bytes(text.tokens) == "é<enx<end>".encode()


def test_a_token_that_is_a_stop_string_is_text_like_others() -> None:
    text = completion(stop=("ab", "b"))  # "ab" begins first
    assert feed(text, b"ab") == ["", ""]
    assert text.finish_reason == "stop" and bytes(text.tokens) == b"ab"


@pytest.mark.parametrize("end", [END, IM_END])
def test_an_end_token_gives_back_what_was_held(end: int) -> None:
    text = completion(stop=("<end>",))
    assert feed(text, b"a<e") == ["a", "", ""]
    assert text.feed(end) == "<e"
    assert text.finish_reason == "stop" and bytes(text.tokens) == b"a<e"


def test_the_last_token_allowed_gives_back_what_was_held() -> None:
    text = completion(stop=("<end>",), max_tokens=3)
    assert feed(text, b"a<e") == ["a", "", "<e"] and text.finish_reason == "length"
    text = completion(stop=("<e",), max_tokens=3)
    assert feed(text, b"a<e") == ["a", "", ""] and text.finish_reason == "stop"


def test_several_texts_are_fed_from_one_step() -> None:
    engine = FakeEngine(alphabet)
    prompts = {"one": b"abc", "two": b"rst", "three": b"w"}
    texts = {name: completion(stop=("xy",), max_tokens=5) for name in prompts}
    sequences = {name: as_engine(engine).new_sequence() for name in prompts}
    pieces = dict.fromkeys(prompts, "")
    spans = {name: Span(sequences[name], list(prompt)) for name, prompt in prompts.items()}
    while spans:
        result = as_engine(engine).step(list(spans.values()))
        for i, name in enumerate(list(spans)):
            pieces[name] += texts[name].feed(result.draw(i, Sampler(GREEDY)))
            del spans[name]
            if texts[name].finish_reason is None:
                spans[name] = Span(sequences[name], texts[name].tokens[-1:], generating=True)
    assert pieces == {"one": "defgh", "two": "uvw", "three": ""}
    assert {name: text.finish_reason for name, text in texts.items()} == {
        "one": "length",
        "two": "stop",
        "three": "stop",
    }


def test_writers_of_one_engine_take_turns() -> None:
    engine = FakeEngine(alphabet)
    one, other = (writer(completion(), engine).run(list(prompt)) for prompt in (b"a", b"p"))
    assert [next(one), next(other), next(one), next(other)] == ["b", "q", "c", "r"]
    assert collect(other) == "stuvwxyz" and collect(one) == "defghijklmnopqrstuvwxyz"


def test_a_full_context_ends_the_text_or_is_refilled() -> None:
    text = completion(stop=("lm",))
    assert collect(writer(text, FakeEngine(alphabet, n_ctx=10)).run(list(b"ab"))) == "cdefghijk"
    assert text.finish_reason == "length"

    engine = FakeEngine(alphabet, n_ctx=12)
    text, shorter = completion(), iter([list(b"?"), None])
    assert collect(writer(text, engine).run(list(b"?????a"), lambda: next(shorter))) == "bcdefghijklm"
    assert text.finish_reason == "length" and text.work.prompt_tokens == 6 + 7
    assert (list(b"bcdefgh"), True) in engine.evaluated


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ContextError, match="the text has 11 tokens, the context holds 10"):
        next(writer(completion(), FakeEngine(alphabet, n_ctx=10)).run([97] * 11))


def test_the_lock_is_held_for_each_step_and_not_between() -> None:
    lock, held = threading.Lock(), []

    def follow(tokens: list[int]) -> int:
        held.append(lock.locked())
        return alphabet(tokens)

    text = writer(completion(max_tokens=4), FakeEngine(follow))
    text.lock = lock
    for _ in text.run([97]):
        assert not lock.locked()
    assert held == [True] * 4


def test_the_report_counts_what_was_computed() -> None:
    engine = FakeEngine(alphabet)
    text = completion(max_tokens=3)
    write = writer(text, engine)
    collect(write.run(list(b"abc")))
    assert (text.work.prompt_tokens, text.work.steps) == (3, 2)
    assert text.report().startswith("prompt: 3 tokens, ") and "; answer: 3 tokens, " in text.report()
    again = Writer(completion(max_tokens=1), write.transcript, sampling(Sampler(GREEDY)))
    collect(again.run(list(b"abcx")))
    assert again.completion.work.prompt_tokens == 1
