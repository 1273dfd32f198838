"""`ggufpy imatrix`: files that quantizing and llama.cpp read, from texts and from other files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import random_llama

from ggufpy.commands.imatrix import main
from ggufpy.gguf.reader import GGUFFile
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.imatrix_file import ImatrixFile

TOKENS = ["<unk>", "<s>", "</s>", *(chr(ord(" ") + i) for i in range(random_llama.VOCAB - 3))]
TEXT = "the quick brown fox jumps over the lazy dog " * 8


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return random_llama.write(
        tmp_path / "model.gguf",
        random_llama.arrays(),
        tokenizer__ggml__tokens=TOKENS,
        tokenizer__ggml__token_type=[2, 3, 3, *[1] * (random_llama.VOCAB - 3)],
    )


def made(model: Path, *arguments: str) -> ImatrixFile:
    assert main(["-m", str(model), "-c", "32", "-f", "text.txt", *arguments]) == 0
    return ImatrixFile.read(Path("imatrix.gguf"))


def test_where_it_cannot_be_written(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is said before the text is read."""
    for out, problem in (
        ("text.txt", "which is read"),
        (".", "not a regular file"),
        ("no/x", "no such folder"),
    ):
        assert main(["-m", str(model), "-c", "32", "-f", "text.txt", "-o", out]) == 1
        error = capsys.readouterr().err
        assert problem in error and error.count("\n") == 1


@pytest.mark.parametrize("options", ["--mix ,", "--mix x", f"-c {2**31}"])
def test_numbers_that_are_none(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["-m", "model", "-f", "text", *options.split()])
    error = capsys.readouterr().err
    assert "numbers above 0" in error or "at most 2147483647" in error


def test_a_file_from_a_text(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = made(model, "--process-output")
    assert capsys.readouterr().out == "imatrix.gguf\n"
    assert (file.chunks, file.chunk_size, list(file.datasets)) == (11, 32, ["text.txt"])
    names = {name for name in GGUFFile.open(model).tensors if "norm" not in name} - {"token_embd.weight"}
    assert file.entries.keys() == names
    assert all(each.counts.tolist() == [11 * 32] for each in file.entries.values())
    assert made(model, "--chunk", "2", "--chunks", "3").chunks == 3
    assert "output.weight" not in ImatrixFile.read(Path("imatrix.gguf")).entries


def test_files_are_added_and_kept_in_both_formats(model: Path) -> None:
    whole = made(model, "--chunks", "6")
    assert main(["--in-file", "imatrix.gguf", "-o", "old.dat"]) == 0
    first, old = ImportanceMatrix.read("imatrix.gguf"), ImportanceMatrix.read("old.dat")
    for name, means in first.entries.items():
        np.testing.assert_allclose(old.entries[name], means, rtol=1e-6)
    made(model, "--chunks", "2")
    Path("imatrix.gguf").rename("first.gguf")
    rest = ["--chunk", "2", "--chunks", "4", "--in-file", "first.gguf"]
    added = made(model, *rest)
    assert added.chunks == 6 and list(added.datasets) == ["text.txt", "text.txt"]
    for name, squares in whole.entries.items():
        np.testing.assert_allclose(added.entries[name].sums, squares.sums, rtol=1e-6)
        assert added.entries[name].counts.tolist() == squares.counts.tolist()
    assert main(["--in-file", "first.gguf", "--in-file", "old.dat", "-c", "32"]) == 0
    name = next(iter(whole.entries))
    assert ImatrixFile.read(Path("imatrix.gguf")).entries[name].counts.tolist() == [8 * 32]


def test_chats_and_mixtures(model: Path, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "what is a fox"}, {"role": "assistant", "content": "an animal " * 9}]
    lines = [json.dumps({"messages": chat}), "", json.dumps(chat)]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    template = "{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}"
    model = random_llama.write(
        model,
        random_llama.arrays(),
        tokenizer__ggml__tokens=TOKENS,
        tokenizer__ggml__token_type=[2, 3, 3, *[1] * (random_llama.VOCAB - 3)],
        tokenizer__chat_template=template,
    )
    file = made(model, "-f", "chats.jsonl", "--mix", "2,1")
    assert list(file.datasets) == ["text.txt", "chats.jsonl"]
    assert file.chunks == 16  # 11 of the one, 5 of the other


def test_statistics(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(model)
    capsys.readouterr()
    assert main(["--in-file", "imatrix.gguf", "--show-statistics", "-o", "none.gguf"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["tensor", "sum(x^2)", "min"]
    totals = [float(row.split()[1]) for row in rows]
    assert len(rows) == 14 and totals == sorted(totals, reverse=True)
    assert not Path("none.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-f", "absent.txt"], "No such file"),
        (
            ["-f", "text.txt", "-c", "9999"],
            "tokens, and a context 9999; give a longer text",
        ),
        (["-f", "text.txt", "-c", "32", "--chunk", "11"], "of 11 contexts none is left"),
        (["-f", "text.txt", "-c", "32", "-o", "text.txt"], "text.txt, which is read; write to another name"),
        (["-f", "text.txt", "-c", "32", "-o", "absent/i.gguf"], "absent"),
        (["-f", "bad.jsonl"], 'bad.jsonl, line 2: no chat; a line is {"messages": [...]}'),
        (
            ["-f", "text.txt", "-c", "32", "--in-file", "other.dat"],
            "other.dat: has 3 values for tensor 'blk.0.attn_q.weight', which needs 256",
        ),
        (["-f", "text.txt", "--in-file", "model.gguf"], "not an importance matrix"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be(
    model: Path, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.jsonl").write_text('[{"role": "user", "content": "a"}]\n{"a": 1}\n')
    name = b"blk.0.attn_q.weight"
    numbers = np.array([1, len(name)], "<i4").tobytes() + name + np.array([1, 3], "<i4").tobytes()
    Path("other.dat").write_bytes(numbers + np.ones(3, "<f4").tobytes())
    assert main(["-m", str(model), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ") and problem in error
    assert not Path("imatrix.gguf").exists() and Path("text.txt").read_text() == TEXT


@pytest.mark.parametrize(
    "arguments",
    [[], ["-m", "m"], ["-f", "t"], ["-m", "m", "-f", "t", "--mix", "1,2"], ["-m", "m", "-f", "t", "-c", "0"]],
    ids=" ".join,
)
def test_senseless_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and capsys.readouterr().err.count("\n") == 1
