"""The shipped model, from its checkpoint to the chat, as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from terminals import Terminal, environment

from ggufpy import Llama, convert_checkpoint
from ggufpy.commands import shipped

QUESTION = [{"role": "user", "content": "What is a river?"}]
IN_TERMINAL = (
    "import sys; from terminals import take_terminal; from ggufpy.commands.run import main;"
    "take_terminal(); sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def model(shipped_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_checkpoint(shipped_checkpoint, tmp_path_factory.mktemp("model") / "model.gguf")[0]


@pytest.fixture
def llm(model: Path) -> Llama:
    return Llama(model, n_threads=1)


def content(response: Any) -> str:
    assert isinstance(response, dict)
    choice = response["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def test_the_first_start_converts_and_later_ones_do_not(
    shipped_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = shipped.shipped_model()
    assert path.parent == tmp_path / "ggufpy" and "on its first use" in capsys.readouterr().err
    made = path.stat().st_mtime_ns
    assert shipped.shipped_model() == path and path.stat().st_mtime_ns == made
    assert capsys.readouterr().err == ""


def test_a_newer_checkpoint_is_converted_again(
    shipped_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in shipped_checkpoint.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(shipped, "_checkpoint", lambda: copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    older = shipped.shipped_model()
    os.utime(copy / "model.safetensors", (1, 1))
    newer = shipped.shipped_model()
    assert newer != older and [newer] == list((tmp_path / "ggufpy").glob("*.gguf"))


def test_answers_in_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ggufpy.run", "-t", "1", "-n", "1", "-p", "Hello"]
    variables = {**os.environ, **environment(tmp_path)}
    for _ in range(2):  # the first run converts, the second does not
        result = subprocess.run(command, input="", capture_output=True, text=True, env=variables, check=True)
        assert result.stdout.strip()


def test_a_long_chat_in_a_terminal(model: Path, tmp_path: Path) -> None:
    arguments = ["-c", IN_TERMINAL, "-m", str(model), "--temp", "0", "-t", "1"]
    with Terminal(arguments, environment(tmp_path)) as terminal:
        terminal.expect("Pocket Wiki 7M Chat, context 512")
        terminal.line("What is a river?")
        first = terminal.expect("answer: .*")
        terminal.line("/regen")
        # Greedy, the same answer comes again; only the last token of its prompt is computed anew.
        assert first.partition("[")[0] in terminal.expect(r"prompt: 1 token,.*")
        forgotten = 0
        for number in range(16):
            terminal.line(f"Tell me about the history of city number {number}, and about London.")
            shown = terminal.expect("answer: .*", seconds=60)
            forgotten += "the context was full: forgot the oldest" in shown
        assert forgotten
        terminal.line("/clear")
        terminal.line("What is a river?")
        assert first.partition("[")[0] in terminal.expect("answer: .*")
        terminal.line("/exit")
        assert terminal.wait() == 0


def test_greedy_text_is_the_same_streamed_cached_and_in_parts(llm: Llama) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 40}
    text = content(llm("The river is", **options))
    assert len(text) > 20 and text.isprintable()
    streamed: Any = llm("The river is", stream=True, **options)
    assert "".join(content(chunk) for chunk in streamed) == text
    llm.reset()
    assert content(llm("The river is", **options)) == text
    prompt = llm.tokenize(b"The river is", special=True)
    assert content(llm(prompt, **options)) == text
    tokens = llm.generate(prompt, temp=0)
    assert text.startswith(llm.detokenize([next(tokens) for _ in range(5)]).decode())


def test_a_chat_completion_streamed_and_whole(llm: Llama) -> None:
    whole = content(llm.create_chat_completion(QUESTION, temperature=0, max_tokens=30))
    chunks: Any = llm.create_chat_completion(QUESTION, temperature=0, max_tokens=30, stream=True)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == whole != ""


def test_a_seed_repeats_and_numpy_samples_like_c(llm: Llama) -> None:
    texts = {content(llm("The river", seed=5, max_tokens=12)) for _ in range(3)}
    assert len(texts) == 1
    greedy = content(llm("The river", temperature=0, max_tokens=12))
    assert greedy == content(llm("The river", temperature=0, max_tokens=12, logits_processor=lambda i, s: s))


def test_logprobs_of_the_prompt_are_those_of_the_scores(model: Path) -> None:
    llm = Llama(model, n_threads=1, logits_all=True)
    response: Any = llm("The river is", temperature=0, max_tokens=3, logprobs=1, echo=True)
    logprobs = response["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == response["choices"][0]["text"]
    assert logprobs["token_logprobs"][0] is None and all(p < 0 for p in logprobs["token_logprobs"][1:])
    assert llm.scores.shape == (llm.n_tokens, llm.n_vocab())
    # What was generated was the likeliest.
    assert logprobs["token_logprobs"][-1] == max(logprobs["top_logprobs"][-1].values())


def test_threads_and_streams_at_once(llm: Llama) -> None:
    prompts = ["The river is", "London was", "In the year"]
    alone = [content(llm(prompt, temperature=0, max_tokens=15)) for prompt in prompts]
    texts: dict[str, str] = {}

    def work(prompt: str) -> None:
        texts[prompt] = content(llm(prompt, temperature=0, max_tokens=15))

    threads = [threading.Thread(target=work, args=[prompt]) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [texts[prompt] for prompt in prompts] == alone
    streams: list[Any] = [llm(prompt, temperature=0, max_tokens=15, stream=True) for prompt in prompts]
    interleaved = ["", "", ""]
    while any(pieces := [next(stream, None) for stream in streams]):
        interleaved = [
            text + (content(piece) if piece else "") for text, piece in zip(interleaved, pieces, strict=True)
        ]
    assert interleaved == alone


def test_what_the_model_says_of_itself(llm: Llama, model: Path) -> None:
    assert (llm.n_ctx(), llm.n_vocab(), llm.n_embd()) == (512, 4096, 256)
    assert llm.metadata["general.architecture"] == "llama"
    text = "Größe, 水 and 😀"
    assert llm.detokenize(llm.tokenize(text.encode())).decode() == text
    with Llama(model, vocab_only=True) as vocabulary:
        assert vocabulary.tokenize(b"a river") == llm.tokenize(b"a river")
