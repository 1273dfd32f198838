"""The benchmark of tokenizers runs, and compares nothing that differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import vocabulary
from oracle import needs_oracle
from random_vocabulary import random_vocabulary

from ggufpy.gguf.writer import write_gguf


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(vocabulary, "N_TOKENS", 400)
    monkeypatch.setattr(vocabulary, "N_LETTERS", 1000)
    metadata = {"general.architecture": "llama", **random_vocabulary(400)}
    (path,) = write_gguf(tmp_path / "v.gguf", metadata, [])
    (tmp_path / "text").write_text("a text that is short\n")
    return ["-m", str(path), "-f", str(tmp_path / "text"), "--rounds", "1"]


@needs_oracle
def test_a_row_for_each_text_and_for_opening(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert vocabulary.main([*arguments, "--llama-cpp"]) == 0
    head, _, *rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[:5]]
    assert head[2:5] == ["ggufpy s", "tokenizers s", "llama.cpp s"] and len(head) == 10
    assert [row[0] for row in rows] == ["| text", "| 1,000 letters", "| opening 400 tokens"]


def test_other_ids_are_no_race(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vocabulary, "library", lambda path: lambda text: [0])
    assert vocabulary.main(arguments) == 1
    assert "tokenizers gives other ids than ggufpy" in capsys.readouterr().err
