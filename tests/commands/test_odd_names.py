"""Files whose names are not UTF-8, which Linux allows: every command reads, writes and names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import random_llama
import tiny

from ggufpy.__main__ import main
from ggufpy.gguf.reader import GGUFFile

ODD = "odd\udcff"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    try:
        (tmp_path / ODD).mkdir()
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    return tmp_path / ODD


def test_paths_work(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(chr(ord(" ") + i) for i in range(random_llama.VOCAB - 3))]
    types = [2, 3, 3, *[1] * (random_llama.VOCAB - 3)]
    model = str(folder / f"{ODD}.gguf")
    random_llama.write(
        Path(model),
        random_llama.arrays(),
        tokenizer__ggml__tokens=tokens,
        tokenizer__ggml__token_type=types,
    )
    (text := folder / "text").write_text("abc " * 50)
    out = str(folder / "out.gguf")
    for line, shown in (
        (["inspect", model], rb"odd\udcff"),
        (["inspect", model, "-o", "json"], rb"\udcff"),
        (["quantize", model, out, "f16"], os.fsencode(out)),
        (["quantize", model, out, "f16", "--dry-run"], os.fsencode(out)),
        (["bench", "-m", model, "-p", "4", "-n", "0", "-r", "1", "-o", "csv"], os.fsencode(ODD)),
        (["perplexity", "-m", model, "-f", str(text), "-c", "16", "--chunks", "1"], b"PPL"),
        (["run", "-m", model, "-f", str(text), "-no-cnv", "-n", "1"], b"abc"),
    ):
        assert main(line) == 0, line
        captured = capfdbinary.readouterr()
        assert shown in captured.out and b"Traceback" not in captured.err, line


def test_a_checkpoint_converts(
    folder: Path, shipped_checkpoint: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    tiny.checkpoint(folder, shipped_checkpoint, tiny.CONFIG)
    assert main(["convert", str(folder), "--outtype", "f16"]) == 0
    path = Path(os.fsdecode(capfdbinary.readouterr().out.removesuffix(b"\n")))
    with GGUFFile.open(path) as file:
        assert str(file.metadata["general.name"]).isascii()


def test_texts_have_to_be_utf8(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, name in (
        (["run", "-sys", ODD], "-sys/--system-prompt"),
        (["quantize", "in.gguf", "q4_0", "--override-kv", f"general.name=str:{ODD}"], "--override-kv"),
        (["quantize", "in.gguf", "q4_0", "--tensor-type", f"{ODD}=f16"], "--tensor-type"),
        (["quantize", "in.gguf", "q4_0", "--include-weights", ODD], "--include-weights"),
    ):
        with pytest.raises(SystemExit):
            main(line)
        error = capsys.readouterr().err
        assert f"error: argument {name}: character" in error and error.count("\n") == 1
