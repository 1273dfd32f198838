"""`python -m ggufpy.inspect`: what it prints, and how it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ggufpy.commands.inspect import main
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.gguf.writer import write_gguf

METADATA: dict[str, Value | Typed] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "epsilon": 1e-5,
    "precise": Typed(0.1, ValueType.F64),
    "endless": float("inf"),
    "yes": True,
    "template": "{% for message in messages %}\n" + 500 * "x",
    "words": [f"word {i}" for i in range(1000)],
    "few": [1, 2, 3],
    "escape": "\x1b[31mred\udcff",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    def zeros(start: int, stop: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        return np.zeros((stop - start, 34), np.uint8)

    tensors = [
        TensorSource("token_embd.weight", (100, 32), GGMLType.Q8_0, zeros),
        TensorSource("ünï\tcode", (2, 3, 32), GGMLType.Q8_0, zeros),
    ]
    (path,) = write_gguf(tmp_path / "model.gguf", METADATA, tensors)
    return path


def test_text(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model)]) == 0
    output = capsys.readouterr().out
    lines = [line.split(maxsplit=2) for line in output.splitlines()]
    assert output.startswith(f"{model}: GGUF version 3, little-endian\n")
    assert ["general.architecture", "string", "llama"] in lines
    assert ["llama.block_count", "u32", "2"] in lines
    assert ["epsilon", "f32", "1e-05"] in lines
    assert ["precise", "f64", "0.1"] in lines
    assert ["yes", "bool", "true"] in lines
    assert ["few", "i32[]", "3: 1, 2, 3"] in lines
    assert "  1000: 'word 0', 'word 1', " in output and "word 8'" not in output
    assert "(530 characters)" in output
    assert r"'\x1b[31mred\udcff'" in output and r"'ünï\tcode'" in output
    assert "  token_embd.weight  100 x 32    q8_0   3400" in output
    assert output.endswith("3,392 parameters, 3,604 bytes, 8.50 bits per weight\n")
    assert all(len(line) < 140 and line.rstrip() == line for line in output.splitlines())


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model), "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert report["metadata"]["epsilon"] == {"type": "f32", "value": 1e-05}
    assert report["metadata"]["endless"] == {"type": "f32", "value": "inf"}
    assert report["metadata"]["template"]["value"] == METADATA["template"]
    words = report["metadata"]["words"]
    assert (words["type"], words["length"], len(words["value"])) == ("string[]", 1000, 8)
    first, second = report["tensors"]
    assert first["name"] == "token_embd.weight" and first["shape"] == [100, 32]
    assert (first["type"], first["bytes"], first["offset"] % 32) == ("q8_0", 3400, 0)
    assert second["offset"] == first["offset"] + 3424
    assert (report["parameters"], report["bytes"], report["bits_per_weight"]) == (3392, 3604, 8.5)


def test_metadata_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = write_gguf(tmp_path / "m.gguf", {}, [])
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.endswith("0 tensors\n\n0 parameters, 0 bytes\n")
    assert main([str(path), "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits_per_weight"] is None


def test_shards_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = [
        TensorSource(name, (100,), GGMLType.I8, lambda start, stop: np.zeros((1, 100), np.uint8))
        for name in "ab"
    ]
    first, second = write_gguf(tmp_path / "m.gguf", {}, tensors, split_max_size=200)
    assert main([str(first)]) == 0
    output = capsys.readouterr().out
    assert "2 tensors in 2 files" in output and first.name in output and second.name in output


def test_failures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.gguf").write_text("Some text.\n")
    for name, problem in {
        "text.gguf": "is not GGUF",
        "missing.gguf": "no such file",
        ".": "is a folder",
    }.items():
        assert main([str(tmp_path / name)]) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and problem in captured.err


def test_usage_errors() -> None:
    for arguments in ([], ["a", "b"], ["a", "-o", "yaml"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_the_door(model: Path) -> None:
    command = [sys.executable, "-m", "ggufpy.inspect", str(model)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and result.stderr == ""
    assert r"'\xfcn\xef\tcode'" in result.stdout
