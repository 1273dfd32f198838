"""The texts that `ggufpy run` is given, and how they are put together."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ggufpy.commands.run import main
from ggufpy.commands.run_options import run_parser
from ggufpy.commands.texts import Texts, read_texts
from ggufpy.errors import GgufpyError


def texts(*arguments: str, stdin: bytes | None = None) -> Texts:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin or b"")))
        return read_texts(run_parser().parse_args(arguments), piped=stdin is not None)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (r"a\nb\tc\r", "a\nb\tc\r"),
        (r"\\n \"\'", "\\n \"'"),
        (r"\x41\xe2\x82\xac\x4", "A\u20ac\\x4"),
        ("\\q\\d \\", "\\q\\d \\"),
        ("\u20ac\\\u20ac", "\u20ac\\\u20ac"),
    ],
)
def test_escapes_are_llama_clis(given: str, meant: str) -> None:
    assert texts("-p", given).prompt == texts("-p", given, "-e").prompt == meant
    assert texts("-r", given).stop == [meant]
    assert texts("-p", given, "-r", given, "--no-escape") == Texts(given, None, [given], None)
    assert texts("-sys", given, "--chat-template", given) == Texts(None, given, [], given)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("\n")
    with pytest.raises(GgufpyError, match=r"prompt.txt is empty; give a prompt with -p"):
        texts("-f", str(path))


def test_escapes_that_are_no_utf8() -> None:
    with pytest.raises(GgufpyError, match="-p: byte 0xff at 1 is not UTF-8"):
        texts("-p", r"a\xff")


@pytest.mark.parametrize(
    ("stdin", "arguments", "prompt"),
    [
        (b"text\n", ["-p", "ask"], "text\n\nask"),
        (b"text", [], "text"),
        (b"  a\n    ", [], "  a\n    "),
        (b"a\n\n", [], "a\n"),
        (b"a\r\n", [], "a"),
        (b"", ["-p", "ask\n"], "ask\n"),
        (b" \n\n", ["-p", "ask"], "ask"),
        (b"text", ["-p", ""], "text"),
        (b"\\n", ["-p", "\\n"], "\\n\n\n\n"),
        (b" \n", [], None),
        (None, [], None),
    ],
)
def test_stdin_stands_before_the_prompt(
    stdin: bytes | None, arguments: list[str], prompt: str | None
) -> None:
    assert texts(*arguments, stdin=stdin).prompt == prompt


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    (path := tmp_path / "a\udcff").write_bytes(b"  x\\n\n\n")
    file = str(path)
    read = texts("-f", file, "-sysf", file, "--chat-template-file", file, stdin=b"y")
    assert read == Texts("y\n\n  x\\n\n", "  x\\n\n", [], "  x\\n\n")


def test_what_cannot_be_read_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "bad").write_bytes(b"ab\xff")
    for line, message in (
        (["-f", str(path)], f"error: {path}: byte 0xff at 2 is not UTF-8; convert the text with iconv"),
        (["-sysf", f"{path}2", "-p", "x"], "No such file or directory"),
        ([], "error: no message to answer: stdin is empty; give one with -p"),
        (["-no-cnv"], "error: no text to complete: stdin is empty; give one with -p"),
    ):
        assert main(line) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err
    for pair in (["-p", "x", "-f", "y"], ["-sys", "x", "-sysf", "y"]):
        with pytest.raises(SystemExit):
            main(pair)
