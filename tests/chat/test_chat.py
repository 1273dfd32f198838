"""The chat: memory, KV reuse, and a context that fills up."""

from pathlib import Path
from typing import Any

import pytest
import random_llama
from fakes import FakeEngine, FakeTokenizer, as_engine, as_tokenizer, collect, says

from ggufpy.chat.chat import Chat
from ggufpy.chat.templates import ChatTemplate
from ggufpy.errors import ContextError, GgufpyError
from ggufpy.generate.sampler import SamplingParams
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import load_tokenizer

# Tokens that ChatML puts around a user message, and those that open an answer.
USER, OPEN = 8, 11


def make(engine: FakeEngine, params: SamplingParams | None = None, **options: Any) -> Chat:
    return Chat(
        as_engine(engine),
        as_tokenizer(FakeTokenizer()),
        ChatTemplate.from_metadata({}),
        params or SamplingParams(),
        **options,
    )


def echo(engine_ctx: int = 512) -> FakeEngine:
    return FakeEngine(says(lambda question: question.upper()), engine_ctx)


def test_answers_and_remembers() -> None:
    engine = echo()
    chat = make(engine, system="be loud")
    assert collect(chat.ask("hi")) == "HI"
    assert collect(chat.ask("you")) == "YOU"
    assert [turn["content"] for turn in chat.turns] == ["hi", "HI", "you", "YOU"]
    assert chat.completion is not None and chat.completion.finish_reason == "stop"


def test_only_new_tokens_are_computed() -> None:
    engine = echo()
    chat = make(engine)
    collect(chat.ask("hi"))
    assert [len(tokens) for tokens, _ in engine.evaluated] == [USER + 2 + OPEN, 1, 1]
    assert [generating for _, generating in engine.evaluated] == [True, True, True]
    engine.evaluated.clear()
    collect(chat.ask("you"))
    # The answer's own tokens are in the cache already: there remain its end, the message, the opening.
    assert len(engine.evaluated[0][0]) == 2 + USER + 3 + OPEN


def test_regenerate_replaces_the_last_answer() -> None:
    engine = echo()
    chat = make(engine)
    assert collect(chat.regenerate()) == ""
    collect(chat.ask("hi"))
    engine.evaluated.clear()
    engine.follow = says(lambda question: "again")
    assert collect(chat.regenerate()) == "again"
    assert [turn["content"] for turn in chat.turns] == ["hi", "again"]
    assert len(engine.evaluated[0][0]) == 1


def test_clear_forgets() -> None:
    chat = make(echo())
    collect(chat.ask("hi"))
    chat.clear()
    assert chat.turns == [] and collect(chat.regenerate()) == ""


def test_a_closed_or_forgotten_chat_makes_room_for_another(tmp_path: Path) -> None:
    path = random_llama.write(tmp_path / "model.gguf", random_llama.arrays())
    with GGUFFile.open(path) as file:
        engine = Engine.load(file, n_ctx=64, n_seq=1, n_threads=1)
        template, tokenizer = ChatTemplate.from_metadata({}), load_tokenizer(file.metadata)

        def chat() -> Chat:
            return Chat(engine, tokenizer, template, SamplingParams(), max_tokens=1)

        collect(chat().ask("x"))
        one, other = chat(), chat()
        collect(one.ask("x"))
        with pytest.raises(ContextError, match="more than 1 completion at once"):
            collect(other.ask("x"))
        one.close()
        collect(other.ask("x"))
        with pytest.raises(GgufpyError, match="was closed"):
            collect(one.ask("x"))


def test_a_stopped_answer_stays_as_far_as_it_came() -> None:
    chat = make(echo())
    pieces = chat.ask("hello")
    assert [next(pieces), next(pieces)] == ["H", "E"]
    pieces.close()
    assert [turn["content"] for turn in chat.turns] == ["hello", "HE"]
    assert collect(chat.ask("on")) == "ON"
    assert [turn["content"] for turn in chat.turns] == ["hello", "HE", "on", "ON"]


def test_an_interrupt_before_the_first_token_leaves_the_chat_usable() -> None:
    engine = echo()
    chat = make(engine)
    follow, engine.follow = engine.follow, interrupted
    with pytest.raises(KeyboardInterrupt):
        collect(chat.ask("hello"))
    engine.follow = follow
    assert collect(chat.regenerate()) == "HELLO"
    engine.follow = interrupted
    with pytest.raises(KeyboardInterrupt):
        collect(chat.ask("one"))
    engine.follow = follow
    assert collect(chat.ask("two")) == "TWO"
    assert [turn["content"] for turn in chat.turns] == ["hello", "HELLO", "two", "TWO"]


def interrupted(tokens: list[int]) -> int:
    raise KeyboardInterrupt


def test_max_tokens_ends_an_answer() -> None:
    chat = make(echo(), max_tokens=3)
    assert collect(chat.ask("hello")) == "HEL"
    assert chat.completion is not None and chat.completion.finish_reason == "length"


def test_the_oldest_turns_are_dropped_and_the_system_message_stays() -> None:
    chat = make(echo(200), system="loud")
    drops = 0
    for number in range(12):
        assert collect(chat.ask(f"number {number}")) == f"NUMBER {number}"
        drops += chat.dropped > 0
    assert drops > 0 and chat.turns[-2]["content"] == "number 11"
    rendered = chat._prompt(chat.turns)
    assert len(rendered) <= 200 and FakeTokenizer().decode(rendered).startswith(b"system\nloud")
    # A quarter is freed at once, so that not every message has to compute the conversation anew.
    assert drops < 7


def test_an_answer_goes_on_when_the_context_fills_up_in_the_middle() -> None:
    answer = "".join(chr(ord("a") + i % 26) for i in range(80))
    engine = FakeEngine(says(lambda question: answer if question == "long" else "ok"), 180)
    chat = make(engine)
    for question in ("one", "two", "three"):
        collect(chat.ask(question))
        assert chat.dropped == 0
    assert collect(chat.ask("long")) == answer
    assert chat.dropped == 2 and [turn["content"] for turn in chat.turns[-2:]] == ["long", answer]


def test_an_answer_that_fills_the_context_alone_ends_there() -> None:
    chat = make(FakeEngine(says(lambda question: "x" * 999), 64))
    # The last token needs no room of its own: it is never computed.
    assert len(collect(chat.ask("go"))) == 64 - (USER + 2 + OPEN) + 1
    assert chat.completion is not None and chat.completion.finish_reason == "length"
    assert chat.dropped == 0
    assert len(collect(chat.ask("go"))) > 0 and chat.dropped == 1


def test_a_message_too_long_for_the_context_changes_nothing() -> None:
    chat = make(echo(100))
    collect(chat.ask("hi"))
    with pytest.raises(ContextError, match="the message has 219 tokens, the context holds 100"):
        collect(chat.ask("x" * 200))
    assert [turn["content"] for turn in chat.turns] == ["hi", "HI"]
    assert collect(chat.ask("you")) == "YOU"


def test_characters_are_never_broken() -> None:
    chat = make(FakeEngine(says(lambda question: "né 😀")))
    assert [piece for piece in chat.ask("x") if piece] == ["n", "é", " ", "😀"]


def test_penalties_see_the_conversation() -> None:
    engine = FakeEngine(says(lambda question: "89"))
    params = SamplingParams(temp=0, presence_penalty=100)
    assert collect(make(engine, params, max_tokens=2).ask("xyz")) == "89"
    assert "9" not in collect(make(engine, params, max_tokens=2).ask("9"))


def test_a_seed_repeats_the_conversation_but_not_the_answer() -> None:
    def talk() -> list[str]:
        engine = echo()
        engine.height = 0
        chat = make(engine, SamplingParams(seed=1, top_k=0, min_p=0), max_tokens=5)
        return [collect(chat.ask("x")), collect(chat.regenerate()), collect(chat.regenerate())]

    first = talk()
    assert first == talk() and len(set(first)) == 3
