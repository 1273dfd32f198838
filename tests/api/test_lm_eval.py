"""The model class for lm-evaluation-harness, with as much of that as it needs, or all if it is there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ggufpy import Llama
from ggufpy.__main__ import main as door
from ggufpy.errors import GgufpyError

REGISTERED: dict[str, Any] = {}


class FakeLM:
    def __init__(self) -> None:
        self.kept: list[tuple[Any, ...]] = []
        self.cache_hook = SimpleNamespace(add_partial=lambda *kept: self.kept.append(kept))


class FakeBar:
    def __init__(self, items: Any = (), **options: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __enter__(self) -> "FakeBar":
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, n: int) -> None: ...


def registering(name: str) -> Any:
    def register(cls: type) -> type:
        REGISTERED[name] = cls
        return cls

    return register


@pytest.fixture(scope="module")
def model(f16: Path) -> Iterator[Any]:
    """The shipped model, as lm-evaluation-harness would open it."""
    modules: dict[str, dict[str, Any]] = {
        "lm_eval": {},
        "lm_eval.api": {},
        "lm_eval.api.model": {"LM": FakeLM},
        "lm_eval.api.registry": {"register_model": registering},
        "tqdm": {"tqdm": FakeBar},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, contents in modules.items():
            module = ModuleType(name)
            module.__dict__.update(contents)
            patch.setitem(sys.modules, name, module)
        patch.delitem(sys.modules, "ggufpy.api.lm_eval", raising=False)
        import_module("ggufpy.api.lm_eval")
        opened = REGISTERED["ggufpy"](str(f16), max_length=64, n_threads=1, batch_size=1, device="cuda:0")
        patch.delitem(sys.modules, "ggufpy.api.lm_eval")
        yield opened


@pytest.fixture(scope="module")
def llama(f16: Path) -> Llama:
    return Llama(str(f16), n_ctx=64, n_threads=1, logits_all=True)


def ask(*args: Any) -> SimpleNamespace:
    return SimpleNamespace(args=args)


def losses(llama: Llama, tokens: list[int], n: int) -> tuple[float, bool]:
    """Of the last n tokens: the sum of ln of their probabilities, and whether each is the likeliest."""
    llama.reset()
    llama.eval(tokens)
    rows = llama.scores[-n - 1 : -1].astype(float)
    wanted = tokens[-n:]
    found = rows[np.arange(n), wanted] - np.logaddexp.reduce(rows, axis=1)
    return float(found.sum()), bool((rows.argmax(axis=1) == wanted).all())


def test_continuations_are_cut_off_the_whole_text(model: Any, llama: Llama) -> None:
    pairs = [
        ("The capital of France is", " Paris."),
        ("The capital of France is ", "Madrid"),  # the space belongs to what follows
        ("Two and two", " are four"),
        ("The capital of France is", " a river in the north"),
        ("", "Paris"),
    ]
    found = model.loglikelihood([ask(*pair) for pair in pairs], disable_tqdm=True)
    for (context, rest), (value, likeliest) in zip(pairs, found, strict=True):
        start = len(llama.tokenize(context.rstrip())) if context else 1
        whole = [llama.token_bos()] * (not context) + llama.tokenize(context + rest)
        expected = losses(llama, whole, len(whole) - start)
        assert (value, likeliest) == (pytest.approx(expected[0], rel=2e-3), expected[1])
    assert ("loglikelihood", pairs[2], found[2]) in model.kept


def test_the_likeliest_continuation_is_told(model: Any, llama: Llama) -> None:
    context = "The capital of France is"
    answer = llama.create_completion(context, max_tokens=3, temperature=0)
    assert isinstance(answer, dict)
    text = answer["choices"][0]["text"]
    assert model.loglikelihood([ask(context, text)])[0][1] is True


def test_long_contexts_lose_their_beginning(model: Any, llama: Llama) -> None:
    context, rest = "the old town " * 60 + "has a", " river"
    tokens = llama.tokenize(context + rest)
    [(value, _)] = model.loglikelihood([ask(context, rest)])
    llama.reset()
    llama.eval(tokens[-65:-1])
    last = llama.scores[-1].astype(float)
    assert value == pytest.approx(float(last[tokens[-1]] - np.logaddexp.reduce(last)), rel=2e-3)
    with pytest.raises(GgufpyError, match="the context 64; raise max_length"):
        model.loglikelihood([ask("a", rest * 80)])
    with pytest.raises(GgufpyError, match="has no tokens of its own"):
        model.loglikelihood([ask("a", "")])


def test_a_text_is_as_likely_as_its_tokens(model: Any, llama: Llama) -> None:
    text = "The river flows through the old town."
    [value] = model.loglikelihood_rolling([ask(text)])
    tokens = llama.tokenize(text)
    assert value == pytest.approx(losses(llama, [llama.token_bos(), *tokens], len(tokens))[0], rel=2e-3)
    [longer] = model.loglikelihood_rolling([ask(text * 12)])
    assert longer < value


def test_text_is_generated_till_it_stops(model: Any, llama: Llama) -> None:
    context = "The capital of France is"
    options = {"max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
    answer = llama.create_completion(context, max_tokens=12, temperature=0)
    assert isinstance(answer, dict)
    text = answer["choices"][0]["text"]
    stop = text[8:10]
    found = model.generate_until(
        [ask(context, options | {"until": []}), ask(context, options | {"until": [stop]})]
    )
    assert found == [text, text[: text.index(stop)]]
    sampled = model.generate_until(
        [ask(context, {"until": [], "max_gen_toks": 4, "do_sample": True, "seed": 1})]
    )
    assert sampled[0]
    with pytest.raises(GgufpyError, match="max_gen_toks=64: the context has 64"):
        model.generate_until([ask(context, {"max_gen_toks": 64})])
    with pytest.raises(TypeError, match="num_beams"):
        model.generate_until([ask(context, {"num_beams": 4, "max_gen_toks": 4})])


def test_chats_are_written_by_the_models_template(model: Any) -> None:
    text = model.apply_chat_template([{"role": "user", "content": "Hello there"}])
    assert "Hello there" in text
    assert model.chat_template(True)
    assert model.tokenizer_name == "m.gguf"


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm_eval is installed")
def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert door(["lm_eval", "--model", "ggufpy"]) == 1
    assert capsys.readouterr().err.endswith("pip install 'ggufpy[lm-eval]'\n")


TASK = """
task: local_quiz
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list: [{metric: acc}]
"""


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs lm_eval")
def test_lm_eval_runs_a_local_task(f16: Path, tmp_path: Path) -> None:
    quiz = [
        {"q": "The capital of France is", "choices": ["Paris", "seven of them are"], "gold": 0},
        {"q": "Two and two is", "choices": ["a river in Africa which", "four"], "gold": 1},
    ]
    (tmp_path / "quiz.jsonl").write_text("\n".join(map(json.dumps, quiz)))
    (tmp_path / "task.yaml").write_text(TASK.replace("DATA", str(tmp_path / "quiz.jsonl")))
    command = [sys.executable, "-m", "ggufpy.lm_eval", "--model", "ggufpy", "--tasks", "local_quiz"]
    command += ["--model_args", f"pretrained={f16},max_length=128", "--include_path", str(tmp_path)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(
        [*command, "--output_path", str(tmp_path / "out")], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    [results] = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["local_quiz"]["acc,none"] == 1
