"""Arguments by position, as llama-cpp-python's callers give them, and by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Unpack

import pytest
from fake_llama import Make, alphabet, llama_maker, whole
from fakes import says

from ggufpy.api.arguments import by_position
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
    with pytest.raises(TypeError, match=r"generate\(\) got an unexpected keyword argument 'mirostat_mode'"):
        llm.generate([97], mirostat_mode=2)
    chat: Any = make(says(lambda question: "long answer"))[0].create_chat_completion
    message = [{"role": "user", "content": "x"}]
    response = whole(chat(message, 0.0, 0.9, 1, 0.1, 1.0, False, "an", 7, 9, 0.0, 0.0, 1.0))
    assert response["choices"][0]["message"]["content"] == "long "
