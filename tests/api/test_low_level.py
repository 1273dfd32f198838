"""The state of a `Llama`: eval, sample, generate, and completions side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_llama import Make, alphabet, llama_maker, whole
from fakes import ENDOFTEXT, IM_END
from tiny_tokenizers import spm_metadata

from ggufpy.api.llama import Llama
from ggufpy.errors import GgufpyError
from ggufpy.gguf.writer import write_gguf
from ggufpy.runtime.engine import Span
from ggufpy.runtime.result import Result


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    return llama_maker(monkeypatch)


def test_tokenize_and_detokenize(make: Make) -> None:
    llm, _ = make(alphabet)
    assert llm.tokenize("é".encode()) == llm.tokenize("é") == [0xC3, 0xA9]
    assert llm.tokenize(b"<|im_end|>", special=True) == [IM_END]
    assert (
        llm.detokenize([97, IM_END]) == b"a" and llm.detokenize([97, IM_END], special=True) == b"a<|im_end|>"
    )
    assert llm.detokenize([ENDOFTEXT, 32, 97]) == b"a"
    assert llm.detokenize([32, 97], prev_tokens=[98]) == b" a"


def test_spaces_of_a_sentencepiece_vocabulary_stay(tmp_path: Path) -> None:
    write_gguf(tmp_path / "v.gguf", {"general.architecture": "llama", **spm_metadata(tmp_path)}, [])
    with Llama(tmp_path / "v.gguf", vocab_only=True) as llm:
        tokens = llm.tokenize("the river, the sea", add_bos=False)
        assert b"".join(llm.detokenize([token]) for token in tokens) == b" the river, the sea"
        for text in (b"the sea", b" the sea", b"  the sea"):
            assert llm.detokenize(llm.tokenize(text)) == text


def test_what_the_model_is(make: Make) -> None:
    llm, _ = make(alphabet, n_ctx=0)
    assert (llm.n_ctx(), llm.n_vocab(), llm.n_embd()) == (1024, 259, 4)
    assert (llm.token_bos(), llm.token_eos(), llm.token_nl()) == (ENDOFTEXT, IM_END, 10)
    assert llm.metadata["general.architecture"] == "llama"


def test_eval_scores_sample_reset(make: Make) -> None:
    llm, _ = make(alphabet, logits_all=True)
    llm.eval([97, 98])
    llm.eval([110])
    assert llm.scores.shape == (3, 259) and llm.scores.argmax(axis=1).tolist() == [98, 99, 111]
    assert (llm.n_tokens, llm.eval_tokens, llm.sample(temp=0)) == (3, [97, 98, 110], 111)
    llm.reset()
    assert llm.n_tokens == 0 and llm.scores.shape == (0, 259)
    with pytest.raises(GgufpyError, match="call eval first"):
        llm.sample()


def test_scores_without_logits_all_have_the_last_row(make: Make) -> None:
    llm, _ = make(alphabet)
    llm.eval([97, 98])
    assert llm.scores.shape == (2, 259) and llm.scores[-1].argmax() == 99 and not llm.scores[0].any()
    assert len(llm.eval_logits) == 1


def test_generate(make: Make) -> None:
    llm, engine = make(alphabet)
    tokens = llm.generate([97, 98])
    assert [next(tokens), next(tokens)] == [99, 100]
    assert tokens.send([120]) == 121
    assert llm.eval_tokens == [97, 98, 99, 100, 120]
    engine.evaluated.clear()
    assert next(llm.generate([97, 98, 120])) == 121 and engine.evaluated == [([120], True)]
    assert next(llm.generate([100], reset=False)) == 101 and llm.eval_tokens == [97, 98, 120, 100]
    assert next(llm.generate([97], logits_processor=lambda ids, logits: -logits)) != 98


def test_a_generator_keeps_its_text(make: Make) -> None:
    llm, engine = make(alphabet)
    tokens = llm.generate([97, 98])
    assert next(tokens) == 99
    stream = iter(llm("p", max_tokens=None, stream=True))
    next(stream)
    assert next(tokens) == 100
    llm("x", max_tokens=2)
    assert next(tokens) == 101
    engine.evaluated.clear()
    llm.reset()
    llm.eval([110])
    assert (next(tokens), llm.sample(temp=0), llm.eval_tokens) == (102, 111, [110])
    other = llm.generate([115], reset=False)
    assert (next(other), next(tokens), next(other)) == (116, 103, 117)
    llm.eval([])
    assert llm.eval_tokens == [110, 115, 116]
    llm.eval([120])
    assert (llm.sample(temp=0), next(other), next(tokens)) == (121, 118, 104)
    assert whole(next(stream))["choices"][0]["text"] == "r"


def test_a_copy_of_a_generators_text_has_its_scores(make: Make) -> None:
    llm, _ = make(alphabet, logits_all=True)
    tokens = llm.generate([97, 98])
    next(tokens)
    llm.eval([110])
    assert llm.scores.argmax(axis=1).tolist() == [98, 99, 111]
    next(tokens)
    assert llm.scores.argmax(axis=1).tolist() == [98, 99, 111]


def test_evaluating_nothing_changes_nothing(make: Make) -> None:
    llm, engine = make(alphabet)
    llm.eval([])
    assert llm.scores.shape == (0, 259) and llm.eval_logits == []
    llm.eval([97])
    llm.eval([])
    assert llm.scores.argmax(axis=1).tolist() == [98] and llm.sample(temp=0) == 98
    assert engine.evaluated == [([97], True)]


def test_another_stream_does_not_change_what_is_sampled(make: Make) -> None:
    llm, _ = make(alphabet)
    stream = iter(llm("p", max_tokens=None, stream=True))
    next(stream)
    llm.reset()
    llm.eval([97, 98])
    next(stream)
    assert llm.sample(temp=0) == 99
    next(stream)
    assert llm.scores[-1].argmax() == 99


def test_two_streams_at_once_do_not_disturb_each_other(make: Make) -> None:
    llm, _ = make(alphabet)
    one = iter(llm("a", max_tokens=None, stream=True))
    next(one)
    two = iter(llm("p", max_tokens=None, stream=True))
    next(two)
    assert whole(llm("x", max_tokens=None))["choices"][0]["text"] == "yz"
    assert "".join(whole(chunk)["choices"][0]["text"] for chunk in two) == "rstuvwxyz"
    assert "".join(whole(chunk)["choices"][0]["text"] for chunk in one) == "cdefghijklmnopqrstuvwxyz"


def test_threads_take_turns(make: Make) -> None:
    llm, engine = make(alphabet)
    inside = threading.Lock()
    plain = engine.step

    def alone(spans: Sequence[Span]) -> Result:
        assert inside.acquire(blocking=False)
        result = plain(spans)
        inside.release()
        return result

    engine.step = alone  # type: ignore[method-assign]
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(whole(llm("a", max_tokens=None))["choices"][0]["text"]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert texts == ["bcdefghijklmnopqrstuvwxyz"] * 4


def test_seeds(make: Make) -> None:
    def flat(ids: Any, logits: Any) -> Any:
        return np.where(np.arange(len(logits)) < 128, 0.0, -np.inf)

    llm, _ = make(alphabet)

    def texts(model: Llama, **options: Any) -> Iterator[str]:
        while True:
            response = model("a", max_tokens=20, logits_processor=flat, top_k=0, **options)
            yield whole(response)["choices"][0]["text"]

    with_seed = texts(llm, seed=7)
    assert next(with_seed) == next(with_seed)
    one, other = texts(make(alphabet, seed=3)[0]), texts(make(alphabet, seed=3)[0])
    assert [next(one), next(one)] == [next(other), next(other)]
    assert next(texts(llm)) != next(texts(llm))
    again = texts(llm, seed=-1)  # another one each time
    assert next(again) != next(again)


def test_closed_and_vocab_only(make: Make) -> None:
    llm, _ = make(alphabet, vocab_only=True)
    assert llm.tokenize(b"a") == [97] and llm.n_vocab() == 259 and llm.n_embd() == 4
    with pytest.raises(GgufpyError, match="vocab_only"):
        llm("a")
    with make(alphabet)[0] as llm:
        llm("a")
    with pytest.raises(GgufpyError, match="closed"):
        llm("a")


def test_closing_ends_streams_and_generators(make: Make) -> None:
    llm, engine = make(alphabet)
    unused = iter(llm("a", stream=True))
    stream, tokens = iter(llm("a", max_tokens=None, stream=True)), llm.generate([97])
    next(stream), next(tokens)
    llm.close()
    llm.close()
    engine.evaluated.clear()
    for going_on in (stream, tokens, unused):
        with pytest.raises(GgufpyError, match="was closed"):
            next(going_on)
    assert engine.evaluated == []
