"""`ggufpy tokenize`: what llama-tokenize prints, and the comparison with a checkpoint's tokenizer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from oracle import Oracle, needs_oracle
from tiny_tokenizers import bpe_metadata, byte_level_json, converted, sentencepiece_model, write_checkpoint

from ggufpy.commands.tokenize import main
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    names = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    return write_checkpoint(tmp_path / "checkpoint", byte_level_json(), names)


@pytest.fixture
def model(tmp_path: Path, checkpoint: Path) -> Path:
    """A file with nothing but a vocabulary."""
    (path,) = write_gguf(tmp_path / "v.gguf", {"general.architecture": "llama", **converted(checkpoint)}, [])
    return path


def output(capture: Capture, *arguments: str | Path) -> str:
    assert main([*map(str, arguments)]) == 0
    result = capture.readouterr()
    assert result.err == ""
    return result.out


def given(patch: pytest.MonkeyPatch, data: bytes) -> None:
    patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_tokens_are_printed_as_llama_tokenize_does(model: Path, capsys: Capture) -> None:
    h, i = load_tokenizer(GGUFFile.open(model).metadata).encode("~\n", add_special=False)
    shown = output(capsys, "-m", model, "-p", "~\\n</s>", "--show-count", "--log-disable")
    assert shown == (
        f"   400 -> '<s>'\n{h:6} -> '~'\n{i:6} -> '\n'\n   401 -> '</s>'\nTotal number of tokens: 4\n"
    )
    assert output(capsys, "-m", model, "-p", "~\\n", "--ids") == f"[400, {h}, {i}]\n"
    assert output(capsys, "-m", model, "-p", "~", "--ids", "--no-bos") == f"[{h}]\n"
    assert output(capsys, "-m", model, "-p", "", "--ids", "--no-bos") == "[]\n"
    plain = output(capsys, "-m", model, "-p", "</s>", "--no-parse-special")
    assert "401" not in plain and "'s'" in plain
    assert output(capsys, "-m", model, "-p", "\\n", "--no-escape").count("->") == 3


def test_texts_of_files_and_stdin_are_taken_whole(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_bytes(b"~\\n\r\n\n")
    wanted = load_tokenizer(GGUFFile.open(model).metadata).encode("~\\n\r\n\n")
    assert json.loads(output(capsys, "-m", model, "-f", tmp_path / "text", "--ids")) == wanted
    given(monkeypatch, b"~\\n\r\n\n")
    assert json.loads(output(capsys, "-m", model, "--stdin", "--ids")) == wanted


def test_parts_of_characters_leave_as_bytes(model: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["-m", str(model), "-p", "\u00ff", "--no-bos"]) == 0
    assert [line[-2:-1] for line in capfdbinary.readouterr().out.splitlines()] == [b"\xc3", b"\xbf"]


def test_verify(model: Path, checkpoint: Path, tmp_path: Path, capsys: Capture) -> None:
    counted = output(capsys, "-m", model, "--verify", checkpoint)
    n = int(counted.split()[0])
    assert counted == f"{n} of {n} texts agree\n" and n > 200
    (tmp_path / "text").write_text("one\n\ntwo\u2028three\n")
    more = output(capsys, "-m", model, "--verify", checkpoint, "-f", tmp_path / "text")
    assert more == f"{n + 2} of {n + 2} texts agree\n"


def test_the_first_difference_is_shown(model: Path, checkpoint: Path, capsys: Capture) -> None:
    tokenizer = byte_level_json()
    vocab = tokenizer["model"]["vocab"]
    vocab["z"], vocab["~"] = vocab["~"], vocab["z"]
    write_checkpoint(checkpoint, tokenizer)
    assert main(["-m", str(model), "--verify", str(checkpoint), "-p", "z"]) == 1
    summary, text, *ids = capsys.readouterr().out.splitlines()
    agree, of = summary.removesuffix(" texts agree").split(" of ")
    assert 0 < int(agree) < int(of) and text.startswith("first difference: '")
    wanted, found = (json.loads(line.partition(": ")[2]) for line in ids[::2])
    assert ids[0].startswith("checkpoint: [") and ids[2].startswith("file: [")
    assert len(ids[1].split()) == len(wanted) and ids[1] == ids[3]
    assert {(a, b) for a, b in zip(wanted, found, strict=True) if a != b} <= {
        (vocab["~"], vocab["z"]),
        (vocab["z"], vocab["~"]),
    }


def test_verify_with_a_sentencepiece_model(tmp_path: Path, capsys: Capture) -> None:
    folder = write_checkpoint(tmp_path / "c", sentencepiece_model(), {"eos_token": "</s>"})
    (path,) = write_gguf(tmp_path / "v.gguf", {"general.architecture": "llama", **converted(folder)}, [])
    assert output(capsys, "-m", path, "--verify", folder, "-p", "a line").endswith(" texts agree\n")
    key = "tokenizer.ggml.token_type"
    odd = {**converted(folder), "general.architecture": "llama", key: [*converted(folder)[key], 1]}
    (other,) = write_gguf(tmp_path / "odd.gguf", odd, [])
    assert output(capsys, "-m", other, "--verify", folder).endswith(" texts agree\n")
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(vocab_size=350))
    assert main(["-m", str(path), "--verify", str(folder)]) == 1
    assert "\u2581" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "{tmp}/none.gguf", "-p", "x"], "none.gguf: no such file; check the path"),
        (["-m", "{tmp}/bare.gguf", "-p", "x"], "tokenizer.ggml.model is None, in a file of architecture"),
        (["-m", "{tmp}/nothing.gguf", "-p", "x"], "tokenizer.ggml.tokens: not a list of strings; this file"),
        (["-m", "{model}", "-f", "{tmp}/none"], "No such file or directory"),
        (
            ["-m", "{model}", "-f", "{tmp}/binary"],
            "binary: byte 0xff at 1 is not UTF-8; convert the text with",
        ),
        (["-m", "{model}", "--stdin"], "stdin: byte 0x80 at 1 is not UTF-8; convert the text with iconv"),
        (["-m", "{model}", "-p", "\\xff"], "-p: byte 0xff at 0 is not UTF-8"),
        (["-m", "{model}", "--verify", "{tmp}/none"], "none: no such folder; name the one of a checkpoint"),
        (["-m", "{model}", "--verify", "{tmp}"], ": no tokenizer there, as tokenizer.json, "),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    model: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_gguf(tmp_path / "bare.gguf", {"general.architecture": "llama"}, [])
    write_gguf(tmp_path / "nothing.gguf", {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2"}, [])
    (tmp_path / "binary").write_bytes(b"a\xff")
    given(monkeypatch, b"\x00\x80")
    assert main([each.format(tmp=tmp_path, model=model) for each in arguments]) == 1
    result = capsys.readouterr()
    assert result.out == "" and result.err.startswith("error: ") and result.err.count("\n") == 1
    assert message in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no text: give one with -p, -f or --stdin"),
        (["-p", "x", "--stdin"], "not allowed with argument"),
        (["--verify", "x", "--ids"], "--ids: is about printing tokens"),
        (["--verify", "x", "--no-bos"], "--no-bos: is about printing tokens"),
    ],
)
def test_senseless_command_lines(arguments: list[str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["-m", "x.gguf", *arguments])
    assert message in capsys.readouterr().err


@needs_oracle
def test_ids_are_llama_cpps(tmp_path: Path, capsys: Capture) -> None:
    metadata = {"general.architecture": "llama", **bpe_metadata(tmp_path / "c")}
    (path,) = write_gguf(tmp_path / "v.gguf", metadata, [])
    text = "Hi, w\u00f6rld <|im_end|>  12\n"
    with Oracle(path, vocab_only=True) as oracle:
        wanted = oracle.tokenize(text, parse_special=True)
    assert json.loads(output(capsys, "-m", path, "-p", text, "--ids")) == wanted
