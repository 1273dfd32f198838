"""Arguments by position, as llama-cpp-python's callers give them, and by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Unpack

import pytest
from fake_llama import Make, alphabet, llama_maker, whole
from fakes import says

from ggufpy.api.arguments import by_position
from ggufpy.errors import TemplateError
from ggufpy.generate.picking import Sampling
from ggufpy.generate.sampler import Numbers, SamplingParams


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    return llama_maker(monkeypatch)


class Method:
    @by_position("first top_p second")
    def take(self, first: int, *, second: int = 2, third: int = 3, **sampling: Unpack[Sampling]) -> Any:
        return first, second, third, sampling


take: Callable[..., Any] = Method().take


def test_positions_and_names_may_be_mixed() -> None:
    assert take(1) == take(first=1) == (1, 2, 3, {})
    assert take(1, 0.5, 4) == take(1, second=4, top_p=0.5) == (1, 4, 3, {"top_p": 0.5})
    assert take(1, 0.5, third=5, logit_bias=None) == (1, 2, 5, {"top_p": 0.5, "logit_bias": None})


def test_calls_that_make_no_sense_are_type_errors() -> None:
    with pytest.raises(TypeError, match=r"take\(\) takes 3 arguments by position, not 4"):
        take(1, 0.5, 4, 5)
    with pytest.raises(TypeError, match=r"take\(\) got multiple values for argument 'top_p'"):
        take(1, 0.5, top_p=0.5)
    with pytest.raises(TypeError, match=r"take\(\) got an unexpected keyword argument 'top_q'"):
        take(1, top_q=0.5)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'first'"):
        take()


def test_what_callers_say_is_what_the_sampler_knows() -> None:
    known = {field.name for field in fields(SamplingParams)}
    assert Numbers.__optional_keys__ == known - {"temp", "seed", "repeat_last_n"}
    assert Sampling.__optional_keys__ - Numbers.__optional_keys__ == {"logit_bias", "logits_processor"}


def test_positions_of_llama(make: Make) -> None:
    llm: Any = make(alphabet)[0]
    by_place = whole(llm("abc", None, 9, 0.0, 0.9, 0.1, 1.0, None, True, "g", 0.0, 0.0, 1.0, 40, False, 7))
    assert by_place["choices"][0]["text"] == "abcdef"
    assert llm.sample(1, 0.9, 0.1, 1.0, 0.7, 1.0, 0.0, 0.0) == ord("g")
    tokens = llm.generate([97], 1, 0.9, 0.1, 1.0, 0.7, 1.0, False, 0.0, 0.0)
    assert next(tokens) == 98 and llm.eval_tokens[-1] == 97 and len(llm.eval_tokens) > 1
    with pytest.raises(TypeError, match=r"generate\(\) got an unexpected keyword argument 'mirostat'"):
        llm.generate([97], mirostat=2)
    chat: Any = make(says(lambda question: "long answer"))[0].create_chat_completion
    message = [{"role": "user", "content": "x"}]
    response = whole(chat(message, 0.0, 0.9, 1, 0.1, 1.0, False, "an", 7, 9, 0.0, 0.0, 1.0))
    assert response["choices"][0]["message"]["content"] == "long "


def test_what_means_nothing_here_is_taken(make: Make) -> None:
    usual = {"n_ubatch": 512, "flash_attn": True, "offload_kqv": False, "rope_freq_base": 0.0, "device": None}
    llm: Any = make(alphabet, **usual, rope_freq_scale=1.0, embedding=False, kv_overrides=None, n_ctx=None)[0]
    assert llm.n_ctx() == 1024
    make(alphabet, rope_freq_base=10000.0)  # what the file has
    neutral: dict[str, Any] = {
        "grammar": None,
        "tools": [],
        "tfs_z": 1.0,
        "mirostat_mode": 0,
        "mirostat_tau": 5.0,
    }
    assert whole(llm("abc", max_tokens=1, **neutral))["choices"][0]["text"] == "d"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rope_freq_base": 5e5}, r"rope_freq_base=500000\.0"),
        ({"lora_path": "x.gguf"}, "lora_path='x.gguf'"),
        ({"chat_template": ""}, r"Llama\(\) got an unexpected keyword argument 'chat_template'"),
        ({"n_gpu_layers": "all"}, r"Llama\(n_gpu_layers='all'\): must be an integer"),
        ({"n_batch": 1.5}, r"n_batch=1\.5"),
    ],
)
def test_what_ggufpy_cannot_do_is_refused(make: Make, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make(alphabet, **arguments)


def test_calls_that_want_more_than_there_is(make: Make) -> None:
    llm: Any = make(alphabet)[0]
    for data in (bytearray(b"a"), memoryview(b"a")):
        with pytest.raises(TypeError, match="is bytes"):
            llm(data)
    for arguments, message in (
        ({"stop": 5}, "stop=5: must be"),
        ({"stop": b"x"}, "stop=b'x'"),
        ({"stop": [None]}, r"stop=\[None\]"),
        ({"seed": 1.5}, r"seed=1\.5\): must be an integer"),
        ({"max_tokens": "3"}, "max_tokens='3'"),
        ({"logprobs": -1}, "logprobs=-1: must be 0 or more"),
        ({"temperature": float("nan")}, "temp=nan: must be a finite number"),
        ({"top_p": None}, "top_p=None"),
        ({"repeat_penalty": "x"}, "repeat_penalty='x'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            llm("a", **arguments)
    with pytest.raises(TemplateError, match="no messages"):
        llm.create_chat_completion([])
    with pytest.raises(ValueError, match=r"create_chat_completion\(tools=\[1\]\): ggufpy cannot do that"):
        llm.create_chat_completion([], tools=[1])
    with pytest.raises(ValueError, match="mirostat_mode=2"):
        llm.create_completion("a", mirostat_mode=2)
    for prompt, message in (
        (b"a", "is bytes"),
        (1.5, "is 1.5"),
        ([1, "a"], "must be text"),
        ([[1], b"b"], "bytes"),
    ):
        with pytest.raises(TypeError, match=message):
            llm(prompt)
    for messages, message in (
        ("hi", "are a str"),
        (["x"], "message 0 is 'x'"),
        ([{"content": "x"}], "role None"),
    ):
        with pytest.raises(TemplateError, match=message):
            llm.create_chat_completion(messages)


def test_messages_may_come_from_anywhere(make: Make) -> None:
    llm: Any = make(says(lambda question: question.upper()))[0]
    messages = [{"role": "user", "content": "abc"}]
    for given in (messages, tuple(messages), iter(messages)):
        assert whole(llm.create_chat_completion(given))["choices"][0]["message"]["content"] == "ABC"


def test_several_prompts_have_several_answers(make: Make) -> None:
    llm: Any = make(alphabet)[0]
    response = whole(llm(["abc", [ord("k")], "x"], max_tokens=3))
    assert [(c["index"], c["text"]) for c in response["choices"]] == [(0, "def"), (1, "lmn"), (2, "yz")]
    assert response["usage"] == {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
    chunks = [c["choices"][0] for c in llm(["abc", "x"], max_tokens=2, stream=True)]
    assert [(c["index"], c["text"]) for c in chunks if c["text"]] == [(0, "d"), (0, "e"), (1, "y"), (1, "z")]
