"""`ggufpy calibrate`: tables, JSON and plots of a model's weights and activations."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import random_llama
import tiny

from ggufpy.calibrate import observing
from ggufpy.calibrate.observing import Observed
from ggufpy.commands.calibrate import main
from ggufpy.commands.calibrate_output import layer_and_kind

TOKENS = ["<unk>", "<s>", "</s>", *(chr(ord(" ") + i) for i in range(random_llama.VOCAB - 3))]
TEXT = "the quick brown fox jumps over the lazy dog " * 8
KINDS = ["activations", "weights"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    arrays = random_llama.arrays()
    arrays["blk.1.ffn_up.weight"][:, 9] *= 20
    arrays["blk.0.ffn_down.weight"][:] = 0
    path = random_llama.write(
        tmp_path / "model.gguf",
        arrays,
        tokenizer__ggml__tokens=TOKENS,
        tokenizer__ggml__token_type=[2, 3, 3, *[1] * (random_llama.VOCAB - 3)],
    )
    return str(path)


def test_tables_with_the_worst_first(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", model, "-f", "text.txt", "-c", "32", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = "weights least most mean deviation rms 1 % 99 % 99.99 % crest outlier columns"
    assert lines[0].split() == heads.split()
    assert lines[1].startswith("blk.1 ffn_up ") and "  1: 9 (2" in lines[1]
    assert lines[4] == "... and 13 more with smaller crests; see --top"
    assert lines[6].startswith("activations, read by ") and len(lines) == 11
    assert main(["-m", model, "--top", "99"]) == 0
    table = capsys.readouterr().out
    assert table.count("\n") == 17 and "blk.0 ffn_down " in table


def test_json(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["-m", model, "-f", "text.txt", "-f", "text.txt", "--mix", "2,1", "-c", "32", "-o", "json"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert (report["contexts"], report["context_size"]) == (16, 32)
    assert len(report["weights"]) == 16
    first = report["activations"][0]
    assert first["tensors"] == [f"blk.0.attn_{name}.weight" for name in "qkv"]
    assert first["count"] == 16 * 32 * random_llama.WIDTH == sum(first["histogram"])
    assert first["min"] <= first["percentiles"]["1"] <= first["percentiles"]["99.99"] <= first["max"]
    (hard,) = (each for each in report["weights"] if each["tensors"] == ["blk.1.ffn_up.weight"])
    assert [each["column"] for each in hard["outliers"]] == [9]


def test_plots(model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of few tensors: matplotlib takes its time."""
    pytest.importorskip("matplotlib")
    for name in ("weights_of", "activations_of"):
        monkeypatch.setattr(observing, name, _first(getattr(observing, name)))
    assert main(["-m", model, "-f", "text.txt", "-c", "32", "--plots", "some/plots"]) == 0
    names = {f"{kind}-{what}.png" for kind in KINDS for what in ("histograms", "channels", "outliers")}
    written = list(Path("some/plots").iterdir())
    assert {path.name for path in written} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert "some/plots/weights-channels.png" in capsys.readouterr().err


def _first(observe: Callable[..., list[Observed]]) -> Callable[..., list[Observed]]:
    return lambda *arguments: observe(*arguments)[:1]


def test_a_checkpoint(tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.checkpoint(tmp_path, shipped_checkpoint, tiny.CONFIG)
    before = sorted(tmp_path.iterdir())
    assert main(["-m", str(tmp_path), "-f", str(shipped_checkpoint / "README.md"), "-c", "32"]) == 0
    assert "ffn_gate+ffn_up" in capsys.readouterr().out and sorted(tmp_path.iterdir()) == before


def test_without_matplotlib(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["-m", model, "--plots", "plots"]) == 1
    error = capsys.readouterr().err
    assert "pip install 'ggufpy[plots]'" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("-m absent.gguf", "absent.gguf"),
        ("-m model.gguf -f absent.txt", "absent.txt"),
        ("-m model.gguf -f text.txt -c 9999", "and a context 9999; give a longer text"),
        ("-m model.gguf --plots text.txt", "text.txt"),
        ("-m empty", "config.json"),
    ],
)
def test_what_cannot_be(model: str, arguments: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(arguments.split()) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and problem in error


@pytest.mark.parametrize(
    "options", ["--top 0", "-c 0", f"-c {2**31}", "--chunks 0", "-f t --mix 1,2", "--mix 1"]
)
def test_senseless_options(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["-m", "model", *options.split()])
    assert stopped.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_names_of_kinds() -> None:
    assert layer_and_kind(["blk.12.attn_q.weight", "blk.12.attn_k.weight"]) == (12, "attn_q+attn_k")
    assert layer_and_kind(["token_embd.weight"]) == (None, "token_embd")
