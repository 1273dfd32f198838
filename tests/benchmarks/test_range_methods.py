"""The benchmark of ranges runs, and draws."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import random_llama
import range_methods

TOKENS = ["<unk>", "<s>", "</s>", *(chr(ord(" ") + i) for i in range(random_llama.VOCAB - 3))]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(
        random_llama.write(
            tmp_path / "model.gguf",
            random_llama.arrays(),
            tokenizer__ggml__tokens=TOKENS,
            tokenizer__ggml__token_type=[2, 3, 3, *[1] * (random_llama.VOCAB - 3)],
        )
    )


def test_a_table(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(range_methods, "METHODS", ("absmax", "zero-point"))
    monkeypatch.setattr(range_methods, "REACHES", (None, "tensor"))
    (tmp_path / "text").write_text("a text that is read " * 40)
    line = ["range_methods", "-m", model, "-f", str(tmp_path / "text"), "--types", "q4_0", "q4_1"]
    monkeypatch.setattr(sys, "argv", [*line, "--contexts", "2"])
    assert range_methods.main() == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[2:]] == [
        ["q4_0", "as llama.cpp"],
        ["q4_0", "absmax"],
        ["q4_1", "as llama.cpp"],
        ["q4_1", "absmax"],
        ["q4_1", "zero-point"],
    ]
    assert 0 < float(rows[3][2]) < float(rows[3][3])


def test_plots(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_methods, "PLOTTED", "blk.1.ffn_down.weight")
    monkeypatch.setattr(sys, "argv", ["range_methods", "-m", model, "--plots", str(tmp_path / "plots")])
    assert range_methods.main() == 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"grids.png", "errors.png"}
