"""What options do to the answers of `ggufpy run`, and what it says beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_run import METADATA, run
from terminals import Terminal, environment

FAKE = str(Path(__file__).parent / "fake_run.py")
TEMPLATE = "tokenizer.chat_template"
PROMPT = "<|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, **metadata: str | int) -> tuple[str, str]:
    """What a run that succeeds says on stdout and on stderr. metadata: added, "__" for "."."""
    more = {key.replace("__", "."): value for key, value in metadata.items()}
    assert run([*arguments], {**METADATA, **more}) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_stop_strings_end_answers_and_completions(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "-p", "hello", "-r", "zzz", "-r", "LO")[0] == "HEL\n"
    assert said(capsys, "-p", "a\\nb", "-r", "A\\n")[0] == "\n"
    assert said(capsys, "-no-cnv", "-p", PROMPT, "-r", "C")[0] == PROMPT + "AB\n"


def test_answers_that_do_not_end_of_their_own_accord(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["-p", "hi"], ["-no-cnv", "--no-display-prompt", "-p", PROMPT.replace("abc", "hi")]):
        assert said(capsys, *line, "-n", "5")[0] == "HI\n"
        assert said(capsys, *line, "-n", "5", "--ignore-eos", "--temp", "0")[0] == "HI\0\0\0\n"


def test_what_is_shown_can_be_less(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "-no-cnv", "-p", PROMPT, "--no-display-prompt", "--no-perf") == ("ABC\n", "")
    assert said(capsys, "-no-cnv", "-p", PROMPT, "--display-prompt")[0] == PROMPT + "ABC\n"
    # That the text was cut short is no matter of speed.
    line = ("-no-cnv", "-p", PROMPT, "--no-show-timings", "--ignore-eos", "-c", "30")
    assert said(capsys, *line)[1] == "[stopped: the context of 30 is full]\n"


def test_a_template_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jinja = "<|im_start|>user\n{{ bos_token }}of mine<|im_end|>\n{{ '<|im_start|>assistant\n' }}"
    (path := tmp_path / "template").write_text(jinja)
    named = {f"{TEMPLATE}.mine": jinja}
    for line in (
        ["--chat-template", jinja],
        ["--chat-template-file", str(path)],
        ["--chat-template", "mine"],
    ):
        assert said(capsys, "-p", "x", *line, "--no-perf", **named) == ("OF MINE\n", "")
    assert said(capsys, "-p", "x", "--chat-template", "chatml")[0] == "X\n"
    (tmp_path / "plain").write_text("no Jinja")
    assert run(["-p", "x", "-n", "3", "--chat-template-file", str(tmp_path / "plain")]) == 0
    capsys.readouterr()
    assert run(["-p", "x", "--chat-template", "llama3"]) == 1
    assert "no chat template 'llama3'; it has none; 'chatml' is always there" in capsys.readouterr().err
    assert run(["-p", "x", "--chat-template", "{% broken"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_without_a_template_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    without = {TEMPLATE: ""}
    assert said(capsys, "-p", "x", "--no-perf", **without) == (
        "X\n",
        "[the file has no chat template; ChatML is used. -no-cnv completes a text without one]\n",
    )
    for line in (["--chat-template", "chatml"], ["-no-cnv"]):
        assert said(capsys, "-p", "x", "-n", "1", "--no-perf", *line, **without)[1] == ""


def test_a_context_beyond_the_models_own_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    line = "[the context has 513 tokens, the model was made for 512; longer texts may come out worse]\n"
    assert said(capsys, "-p", "x", "--no-perf", "-c", "513")[1] == line
    assert said(capsys, "-p", "x", "--no-perf", "-c", "512")[1] == ""
    assert said(capsys, "-p", "x", "--no-perf", "-c", "513", fake__context_length="?")[1] == ""


def test_a_single_turn_in_a_terminal(tmp_path: Path) -> None:
    with Terminal([FAKE, "-st", "-p", "first"], environment(tmp_path)) as terminal:
        terminal.expect("FIRST\n")
        assert terminal.wait() == 0
    with Terminal([FAKE, "--single-turn"], environment(tmp_path)) as terminal:
        terminal.line("/help")
        terminal.line("hello")
        terminal.expect("HELLO\n")
        assert terminal.wait() == 0
