"""`ggufpy run` from outside: in a terminal, in a pipe, and with wrong arguments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from terminals import Terminal, environment

from ggufpy.commands import shipped
from ggufpy.commands.run import main
from ggufpy.commands.run_options import run_parser, sampling_params

TESTS = Path(__file__).parent
FAKE = str(TESTS / "fake_run.py")


def pipe(arguments: list[str], cache: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FAKE, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(cache),
        timeout=60,
        check=False,
    )


def test_answers_one_prompt_in_a_pipe(tmp_path: Path) -> None:
    for arguments, stdin, expected in (
        (["-p", "hello"], "", "HELLO\n"),
        ([], " from stdin \n", " FROM STDIN \n"),
        (["-p", "hello"], "from stdin\n", "FROM STDIN\n\nHELLO\n"),
        (["-p", "hello", "-n", "2"], "", "HE\n"),
        (["--prompt", "hi", "--n-predict", "9", "-sys", "s", "-c", "100", "-t", "1", "-s", "1"], "", "HI\n"),
    ):
        done = pipe(arguments, tmp_path, stdin)
        assert (done.returncode, done.stdout) == (0, expected), done.stderr
        assert done.stderr.count("\n") == 1 and "tokens/s" in done.stderr


def test_completes_a_text(tmp_path: Path) -> None:
    prompt = "<|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n"
    done = pipe(["-no-cnv", "-p", prompt], tmp_path)
    assert (done.returncode, done.stdout) == (0, prompt + "ABC\n")


def test_a_pipe_gets_the_text_as_it_is(tmp_path: Path) -> None:
    assert "\x1b[31m" in pipe(["-p", "evil"], tmp_path).stdout


def test_a_chat_in_a_terminal(tmp_path: Path) -> None:
    with Terminal([FAKE], environment(tmp_path)) as terminal:
        terminal.expect("fake, context 512; /help lists the commands")
        terminal.line("hello")
        terminal.expect("HELLO\n")
        terminal.expect(r"prompt: \d+ tokens, [\d.]+ tokens/s; answer: 5 tokens, [\d.]+ tokens/s")
        terminal.line("/help")
        terminal.expect("/regen +answer the last message")
        terminal.line("/regen")
        terminal.expect("HELLO\n")
        terminal.line("/clear")
        terminal.expect("forgotten")
        terminal.line("/regen")
        terminal.expect("nothing to answer")
        terminal.line("/unheard")
        terminal.expect("no command /unheard")
        terminal.line("/etc/passwd?")
        terminal.expect(r"/ETC/PASSWD\?\n")
        for unknown in ("/load x", "/?"):
            terminal.line(unknown)
            terminal.expect(re.escape(f"no command {unknown.split()[0]};"))
        for first, last in (('"""one', 'two"""'), ("one\\", "two")):
            terminal.line(first)
            terminal.line(last)
            terminal.expect("ONE\nTWO\n")
        terminal.line("quit")
        assert terminal.wait() == 0


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(tmp_path: Path) -> None:
    with Terminal([FAKE], environment(tmp_path)) as terminal:
        terminal.line("slow 1000")
        terminal.expect("\n10\n")
        terminal.type("\x03")
        shown = terminal.expect("stopped")
        assert "\n999" not in shown
        terminal.line("hello")
        terminal.expect("HELLO\n")
        terminal.line("/exit")
        assert terminal.wait() == 0


def test_ctrl_c_twice_or_ctrl_d_leaves(tmp_path: Path) -> None:
    with Terminal([FAKE], environment(tmp_path)) as terminal:
        terminal.ready()
        terminal.type("\x03")
        terminal.expect("once more")
        terminal.line("hello")
        terminal.expect("HELLO\n")
        terminal.ready()
        terminal.type("\x03")
        terminal.expect("once more")
        terminal.ready()
        terminal.type("\x03")
        assert terminal.wait() == 0
    with Terminal([FAKE], environment(tmp_path)) as terminal:
        terminal.ready()
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_a_first_message_and_a_history_that_lasts(tmp_path: Path) -> None:
    with Terminal([FAKE, "-p", "first"], environment(tmp_path)) as terminal:
        terminal.expect("FIRST\n")
        terminal.line("second")
        terminal.expect("SECOND\n")
        terminal.ready()
        terminal.type("\x04")
        assert terminal.wait() == 0
    with Terminal([FAKE], environment(tmp_path)) as terminal:
        terminal.ready()
        terminal.type("\x1b[A\x1b[D!\r")  # up, left, edit
        terminal.expect("SECON!D\n")


def test_a_long_conversation_drops_its_oldest_turns(tmp_path: Path) -> None:
    with Terminal([FAKE, "-c", "150", "-sys", "s"], environment(tmp_path)) as terminal:
        for number in range(8):
            terminal.line(f"number {number}")
            terminal.expect(f"NUMBER {number}\n")
        terminal.line("x" * 150)
        terminal.expect("error: the message has 180 tokens, the context holds 150; shorten it")
        terminal.line("hello")
        shown = terminal.expect("HELLO\n")
        assert "\x1b" not in shown
        terminal.line("/exit")
        assert terminal.wait() == 0


def test_an_answer_cannot_drive_the_terminal(tmp_path: Path) -> None:
    with Terminal([FAKE], environment(tmp_path)) as terminal:
        terminal.line("evil")
        terminal.expect("a␛\\[31mb␇\nc\ufffdd\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "{folder}/missing.gguf"], "missing.gguf"),
        (["-m", "{folder}"], "{folder}"),
        (["-m", "{folder}/text.gguf"], "text.gguf"),
        (["-m", "{folder}/empty.gguf"], "empty.gguf"),
        (["-c", "-1"], "-c -1: must be from 0 to"),
        (["-t", "513"], "-t 513: must be from -1 to 512"),
        (["-n", "0"], "-n 0: nothing to do"),
        (["-n", "-3"], "-n -3: must be from -2"),
        (["--temp", "-1"], "--temp -1.0: must be from 0"),
        (["--temp", "nan"], "--temp nan: must be from 0"),
        (["--top-p", "1.5"], "--top-p 1.5: must be from 0 to 1"),
        (["--repeat-penalty", "0"], "--repeat-penalty 0.0"),
        (["-s", "-5"], "--seed -5"),
    ],
)
def test_wrong_input_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "text.gguf").write_text("not a model\n" * 100)
    (tmp_path / "empty.gguf").touch()
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert main([*arguments, "-p", "x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message.format(folder=tmp_path) in captured.err


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["-c", "many"], "argument -c/--ctx-size: invalid int value: 'many'; see ggufpy run --help"),
        (["--unheard-of", "x"], "--unheard-of: not supported; see ggufpy run --help"),
        (["stray"], "'stray': a word too many; name a model with -m, a text with -p"),
        (["-p", "a\udcff"], "argument -p/--prompt: character 1 is not UTF-8; convert"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and error.count("\n") == 1 and f"error: {message}" in error


def test_sampling_is_llama_cpps_then_the_files_then_the_options() -> None:
    metadata = {
        "general.sampling.temp": 0.7,
        "general.sampling.top_k": 20,
        "general.sampling.penalty_last_n": 32,
        "general.sampling.min_p": "nonsense",
    }
    params = sampling_params(run_parser().parse_args(["--top-k", "5"]), metadata)
    assert (params.temp, params.top_k, params.top_p, params.min_p) == (0.7, 5, 0.95, 0.05)
    assert (params.repeat_penalty, params.repeat_last_n, params.seed) == (1.0, 32, None)
    assert sampling_params(run_parser().parse_args(["--seed", "3", "--temp", "0"]), metadata).seed == 3


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert shipped.cache_folder() == tmp_path / "cache" / "ggufpy"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert shipped.cache_folder().parent == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shipped.cache_folder() == tmp_path / ".cache" / "ggufpy"


def test_nothing_is_imported_that_is_not_needed(tmp_path: Path) -> None:
    """Starting fast: no encoder, no terminal, and no templates for a plain completion."""
    for arguments, unwanted in (
        (["-p", "x"], ("numba", "rich", "prompt_toolkit", "ggufpy.convert")),
        (["-p", "x", "-no-cnv", "-n", "1"], ("numba", "rich", "prompt_toolkit", "ggufpy.convert", "jinja2")),
    ):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", FAKE, *arguments],
            capture_output=True,
            text=True,
            env=environment(tmp_path),
            timeout=60,
            check=True,
        )
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "ggufpy.generate.completion" in imported
        assert not [name for name in imported if name.startswith(unwanted)]
