"""`Llama`: completions and their return values."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fake_llama import METADATA, Make, alphabet, llama_maker, whole
from fakes import ENDOFTEXT, IM_END, IM_START, FakeTokenizer, says
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ggufpy.api.llama import Llama
from ggufpy.errors import ContextError, TemplateError


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    return llama_maker(monkeypatch)


def test_a_completion_has_llama_cpp_pythons_shape(make: Make) -> None:
    llm, _ = make(alphabet)
    response = whole(llm("abc", max_tokens=3))
    assert response.pop("id").startswith("cmpl-") and response.pop("created") > 1e9
    assert response == {
        "object": "text_completion",
        "model": "fake.gguf",
        "choices": [{"text": "def", "index": 0, "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
    }


def test_an_end_token_ends_the_text(make: Make) -> None:
    llm, _ = make(alphabet)
    response = whole(llm.create_completion("w", max_tokens=None, model="mine"))
    assert response["choices"][0]["text"] == "xyz" and response["choices"][0]["finish_reason"] == "stop"
    assert response["usage"]["completion_tokens"] == 3 and response["model"] == "mine"


def test_stop_strings_and_echo(make: Make) -> None:
    llm, _ = make(alphabet)
    choice = whole(llm("abc", max_tokens=0, stop=["zz", "hi"], echo=True))["choices"][0]
    assert choice["text"] == "abcdefg" and choice["finish_reason"] == "stop"
    assert whole(llm("abc", max_tokens=5, stop="f"))["choices"][0]["text"] == "de"


def test_a_stop_string_may_be_a_control_token(make: Make) -> None:
    llm, _ = make(lambda tokens: IM_START if tokens[-1] == ord("c") else tokens[-1] + 1)
    choice = whole(llm("a", max_tokens=9, stop=["<|im_start|>"]))["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("bc", "stop")


def test_a_streamed_completion(make: Make) -> None:
    llm, _ = make(alphabet)
    chunks = list(llm("abc", max_tokens=9, stop=["gh"], stream=True))
    assert [whole(chunk)["choices"][0]["text"] for chunk in chunks] == ["d", "e", "f", ""]
    assert [whole(chunk)["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({whole(chunk)["id"] for chunk in chunks}) == 1
    assert all(whole(chunk)["object"] == "text_completion" and "usage" not in chunk for chunk in chunks)


def test_variables_for_the_template(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ 'C' if enable_thinking else 'F' }}"
    monkeypatch.setitem(METADATA, "tokenizer.chat_template", source)
    llm, _ = make(alphabet)
    for thinks, text in ((True, "D"), (False, "G")):
        response = whole(
            llm.create_chat_completion(
                [{"role": "user", "content": "A"}],
                max_tokens=1,
                chat_template_kwargs={"enable_thinking": thinks},
            )
        )
        assert response["choices"][0]["message"]["content"] == text


def test_a_chat_completion(make: Make) -> None:
    llm, _ = make(says(lambda question: question + "!"))
    response = whole(llm.create_chat_completion([{"role": "user", "content": "hey"}]))
    assert response.pop("id").startswith("chatcmpl-") and response.pop("created") > 1e9
    assert response == {
        "object": "chat.completion",
        "model": "fake.gguf",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hey!"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 22, "completion_tokens": 4, "total_tokens": 26},
    }


def test_a_streamed_chat_completion(make: Make) -> None:
    llm, _ = make(says(lambda question: question + "!"))
    chunks = list(llm.create_chat_completion([{"role": "user", "content": "he"}], stream=True))
    assert [whole(chunk)["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant"},
        {"content": "h"},
        {"content": "e"},
        {"content": "!"},
        {},
    ]
    assert whole(chunks[-1])["choices"][0]["finish_reason"] == "stop"
    assert {whole(chunk)["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_a_chat_format_that_is_not_there_is_refused_at_once(make: Make) -> None:
    with pytest.raises(TemplateError, match="no chat template 'unheard-of'"):
        make(alphabet, chat_format="unheard-of")
    message = [{"role": "user", "content": None}]
    assert whole(make(alphabet, chat_format="chatml")[0].create_chat_completion(message, max_tokens=1))


def test_a_shared_beginning_is_not_computed_again(make: Make) -> None:
    llm, engine = make(alphabet)
    llm("abc", max_tokens=2)
    engine.evaluated.clear()
    llm("abcdxy", max_tokens=1)
    assert engine.evaluated == [([ord("x"), ord("y")], True)]
    engine.evaluated.clear()
    llm("abcdxy", max_tokens=1)
    assert engine.evaluated == [([ord("y")], True)]


def test_logprobs(make: Make) -> None:
    llm, _ = make(alphabet)
    logprobs = whole(llm("abc", max_tokens=2, logprobs=2))["choices"][0]["logprobs"]
    certain = -np.log(1 + 258 * np.exp(-40))
    assert logprobs["tokens"] == ["d", "e"] and logprobs["text_offset"] == [3, 4]
    assert logprobs["token_logprobs"] == pytest.approx([certain, certain])
    assert logprobs["top_logprobs"][0] == pytest.approx({"d": certain, "\x00": certain - 40})


def test_logprobs_of_the_prompt(make: Make) -> None:
    llm, _ = make(alphabet)
    with pytest.raises(ValueError, match="logits_all=True"):
        llm("abc", logprobs=1, echo=True)
    llm, _ = make(alphabet, logits_all=True)
    logprobs = whole(llm("abx", max_tokens=1, logprobs=0, echo=True))["choices"][0]["logprobs"]
    certain = -np.log(1 + 258 * np.exp(-40))
    assert logprobs["tokens"] == ["a", "b", "x", "y"] and logprobs["text_offset"] == [0, 1, 2, 3]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["token_logprobs"][1:] == pytest.approx([certain, certain - 40, certain])


def test_offsets_of_a_prompt_with_a_space_in_front(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTokenizer, "encode", lambda self, text, **options: list(b" " + text.encode()))
    llm, _ = make(alphabet, logits_all=True)
    choice = whole(llm("ab", max_tokens=2, logprobs=0, echo=True))["choices"][0]
    assert choice["text"] == "abcd" and choice["logprobs"]["text_offset"] == [0, 0, 1, 2, 3]


def test_logprobs_of_a_chat(make: Make) -> None:
    llm, _ = make(says(lambda question: "ok"))
    message = [{"role": "user", "content": "x"}]
    response = whole(llm.create_chat_completion(message, logprobs=True, top_logprobs=1))
    first = response["choices"][0]["logprobs"]["content"][0]
    assert first["token"] == "o" and first["bytes"] == [111] and len(first["top_logprobs"]) == 1
    assert len(response["choices"][0]["logprobs"]["content"]) == response["usage"]["completion_tokens"] == 2
    chunks = list(llm.create_chat_completion(message, logprobs=True, stream=True))
    assert whole(chunks[1])["choices"][0]["logprobs"]["content"][0]["token"] == "o"


def says_in_bytes(text: str) -> Callable[[list[int]], int]:
    """Continues "?" with the text, byte by byte."""
    data = b"?" + text.encode()
    return lambda tokens: data[len(tokens)] if len(tokens) < len(data) else IM_END


def test_logprobs_of_parts_of_characters(make: Make) -> None:
    llm, _ = make(says_in_bytes("\U0001f642é!"))
    choice = whole(llm("?", temperature=0, max_tokens=20, logprobs=2))["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"] == "\U0001f642é!"
    assert logprobs["text_offset"] == [1, 1, 1, 1, 2, 2, 3]
    assert logprobs["tokens"][0] == "bytes:\\xf0" and logprobs["tokens"][-1] == "!"
    assert all(len(top) == 2 for top in logprobs["top_logprobs"])
    chunks = [whole(c)["choices"][0] for c in llm("?", temperature=0, max_tokens=20, logprobs=2, stream=True)]
    parts = [chunk["logprobs"] for chunk in chunks if chunk["logprobs"]]
    assert {key: [*chain(*(part[key] for part in parts))] for key in logprobs} == logprobs
    assert "".join(chunk["text"] for chunk in chunks) == choice["text"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text("ab\u00e9\U0001f642", min_size=1, max_size=12),
    st.text("ab\u00e9", min_size=1),
    st.integers(1, 40),
)
def test_offsets_lie_in_the_text_both_ways(make: Make, text: str, stop: str, max_tokens: int) -> None:
    llm, _ = make(says_in_bytes(text))
    arguments: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens, "stop": [stop], "logprobs": 0}
    choice = whole(llm("?", **arguments))["choices"][0]
    answer, logprobs = "?" + choice["text"], choice["logprobs"]
    at_end = int(choice["finish_reason"] == "length")
    assert all(1 <= offset < len(answer) + at_end for offset in logprobs["text_offset"])
    for offset, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True):
        assert token.startswith("bytes:") or answer[offset] == token
    chunks = [whole(chunk)["choices"][0]["logprobs"] for chunk in llm("?", stream=True, **arguments)]
    assert [*chain(*(chunk["text_offset"] for chunk in chunks if chunk))] == logprobs["text_offset"]


def test_a_stream_may_count_its_tokens(make: Make) -> None:
    llm, _ = make(says(lambda question: "ok"))
    message = [{"role": "user", "content": "x"}]
    usage = whole(llm.create_chat_completion(message))["usage"]
    calls: list[tuple[Callable[..., Any], Any]] = [(llm.create_chat_completion, message), (llm, "x")]
    for method, prompt in calls:
        *plain, last = (whole(c) for c in method(prompt, stream=True, stream_options={"include_usage": True}))
        assert last["choices"] == [] and last["usage"]["total_tokens"] > 0
        assert plain[-1]["choices"][0]["finish_reason"] and not any("usage" in chunk for chunk in plain)
        assert len(list(method(prompt, stream=True, stream_options={}))) == len(plain)
        if method == llm.create_chat_completion:
            assert last["usage"] == usage
        with pytest.raises(TypeError, match="stream_options=5: must be a dict"):
            method(prompt, stream=True, stream_options=5)
    answer: Any = llm.create_chat_completion
    for variables, problem in ((5, "must be a dict"), ({"messages": []}, "an argument of their own")):
        with pytest.raises((TypeError, ValueError), match=problem):
            answer(message, chat_template_kwargs=variables)


def test_logit_bias_and_processors(make: Make) -> None:
    llm, _ = make(alphabet)
    biased = whole(llm("abc", max_tokens=2, temperature=0, logit_bias={ord("d"): -100, ord("e"): 25}))
    assert biased["choices"][0]["text"] == "ef"
    seen: list[list[int]] = []

    def shout(ids: Any, logits: Any) -> Any:
        seen.append(ids.tolist())
        return np.where(np.arange(len(logits)) == ord("Z"), 50, logits)

    assert whole(llm("abc", max_tokens=2, logits_processor=[shout]))["choices"][0]["text"] == "ZZ"
    assert seen == [[97, 98, 99], [97, 98, 99, ord("Z")]]
    with pytest.raises(ValueError, match="logit_bias: no token 999"):
        llm("abc", logit_bias={999: 1.0})
    with pytest.raises(TypeError, match=r"logit_bias=\[1\]: must be a dict"):
        cast(Any, llm)("abc", logit_bias=[1])


def test_stopping_criteria(make: Make) -> None:
    llm, _ = make(alphabet)
    response = whole(llm("abc", max_tokens=9, stopping_criteria=lambda ids, logits: len(ids) >= 5))
    assert response["choices"][0] | {"logprobs": None} == {
        "text": "de",
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_sampling_follows_what_processors_make_of_the_logits(make: Make) -> None:
    """Logits 1, 0 and -inf elsewhere, drawn often: frequencies are those of the softmax, per setting."""
    llm, _ = make(alphabet)

    def two(ids: Any, logits: Any) -> Any:
        logits[:] = -np.inf
        logits[[65, 66]] = 1.0, 0.0
        return logits

    def share_of_b(**options: Any) -> float:
        text = whole(llm("x", max_tokens=400, seed=1, logits_processor=two, min_p=0, **options))
        return float(text["choices"][0]["text"].count("B") / 400)

    assert share_of_b(temperature=1) == pytest.approx(1 / (1 + np.e), abs=0.06)
    assert share_of_b(temperature=2) == pytest.approx(1 / (1 + np.exp(0.5)), abs=0.06)
    assert share_of_b(temperature=0) == share_of_b(top_k=1) == share_of_b(top_p=0.5) == 0
    assert share_of_b(temperature=1, presence_penalty=-50, top_k=0) in (0, 1)


def test_processors_as_people_write_them(make: Make) -> None:
    llm, _ = make(alphabet)

    def text(*processors: Any) -> str:
        return str(whole(llm("abc", max_tokens=2, logits_processor=processors))["choices"][0]["text"])

    def in_place(ids: Any, logits: Any) -> None:
        logits[:] = np.roll(logits, 1)

    assert text(lambda ids, logits: np.broadcast_to(logits, logits.shape), in_place) == "eg"
    assert text(lambda ids, logits: logits[None], in_place) == text(
        lambda ids, logits: logits.tolist(), in_place
    )
    with pytest.raises(ValueError, match=r"a logits processor made \(10,\) of logits of shape \(259,\)"):
        text(lambda ids, logits: logits[:10])


@pytest.mark.parametrize("temperature", [0, 1])
def test_nothing_left_to_draw_is_an_error(make: Make, temperature: float) -> None:
    llm, _ = make(alphabet)
    for choosing in (
        {"logits_processor": lambda ids, logits: np.full_like(logits, -np.inf)},
        {"logit_bias": dict.fromkeys(range(259), -np.inf)},
    ):
        with pytest.raises(ValueError, match="no token can be drawn"):
            llm("abc", temperature=temperature, **choosing)


def test_the_same_seed_gives_the_same_text_with_a_bias_that_does_nothing(f16: Path) -> None:
    with Llama(f16) as llm:

        def text(**options: Any) -> str:
            response = whole(llm("A river is", max_tokens=24, temperature=1.0, seed=11, **options))
            return str(response["choices"][0]["text"])

        plain = text()
        assert text(logit_bias={5: 0.0}) == text(logits_processor=lambda ids, logits: logits) == plain
        assert text(logit_bias={5: 0.0}, repeat_penalty=1.2) == text(repeat_penalty=1.2)
        assert text(typical_p=0.5, logit_bias={5: 0.0}) == text(typical_p=0.5) != plain


def test_what_does_not_fit_is_a_value_error(make: Make) -> None:
    llm, _ = make(alphabet, n_ctx=8)
    with pytest.raises(ValueError, match=r"Requested tokens \(8\) exceed context window of 8"):
        llm("a" * 8)
    with pytest.raises(ContextError):
        llm.eval([1] * 9)
    assert llm.n_tokens == 0
    assert whole(llm("a" * 5, max_tokens=99))["usage"]["completion_tokens"] == 3


def test_arguments_that_cannot_be_honoured_are_refused(make: Make) -> None:
    llm, _ = make(alphabet)
    with pytest.raises(ValueError, match="suffix"):
        llm("a", suffix="b")
    with pytest.raises(ValueError, match="grammar"):
        llm("a", grammar="x")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="n_ctx=-1"):
        make(alphabet, n_ctx=-1)
    with pytest.raises(ValueError, match=r"999.* is not in the vocabulary"):
        llm([999])


def test_prompts_of_tokens_and_bos(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    llm, engine = make(alphabet)
    llm([97, 98], max_tokens=1)
    monkeypatch.setattr(FakeTokenizer, "add_bos", True)
    llm("a", max_tokens=1)
    llm("<|endoftext|>b", max_tokens=1)
    llm("", max_tokens=1)
    assert [tokens for tokens, _ in engine.evaluated] == [[97, 98], [ENDOFTEXT, 97], [98], [ENDOFTEXT]]


def test_verbose_reports_on_stderr(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    llm, _ = make(alphabet, verbose=True)
    llm("abc", max_tokens=3)
    captured = capsys.readouterr()
    assert (
        captured.out == "" and captured.err.startswith("prompt: 3 tokens, ") and captured.err.count("\n") == 1
    )
