"""`ggufpy convert`: what it prints, promises and returns."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from tiny import CONFIG

from ggufpy.commands.convert import main
from ggufpy.gguf.reader import GGUFFile


def test_the_command(tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    assert main([str(shipped_checkpoint), "-o", str(out), "--outtype", "q8_0", "--verbose"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    lines = [line for line in printed.err.splitlines() if not line.startswith("compiling ")]  # at first only
    assert len(lines) == 74 + 4 and "\x1b" not in printed.err and "\r" not in printed.err
    assert lines[1].split() == ["token_embd.weight", "4096", "x", "256", "bf16", "->", "q8_0", "1,114,112"]
    assert lines[74] == f"{out}: 74 tensors, 7.8 MB" and "MB/s" in lines[75]
    assert lines[76] == "types: 57 q8_0 (7.8 MB), 17 f32 (0.0 MB)"
    assert lines[77] == "74 tensors, 14.7 -> 7.8 MB, 8.51 bits per weight"


def test_dry_run_gives_the_exact_size(
    tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ([], ["--split-max-size", "2M"]):
        arguments = [str(shipped_checkpoint), "-o", str(tmp_path / "x.gguf"), "--outtype", "q4_0", *split]
        assert main([*arguments, "--dry-run"]) == 0
        assert not list(tmp_path.iterdir())
        promised = [line for line in capsys.readouterr().out.splitlines() if line.endswith(" bytes")]
        assert main(arguments) == 0
        files = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert promised == [f"{file}: {file.stat().st_size:,} bytes" for file in files]
        assert all(file.stat().st_size <= 2_000_000 for file in files) or not split
        for file in files:
            file.unlink()


def test_vocab_only(tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("config.json", *tiny.TOKENIZER_FILES):
        (tmp_path / name).write_bytes((shipped_checkpoint / name).read_bytes())
    assert main([str(tmp_path), "--vocab-only"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / f"{tmp_path.name}-vocab.gguf"
    with GGUFFile.open(path) as file:
        tokens = file.metadata["tokenizer.ggml.tokens"]
        assert not file.tensors and isinstance(tokens, list) and len(tokens) == 4096


def test_a_mixture_is_told(
    tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.checkpoint(tmp_path, shipped_checkpoint, CONFIG | {"intermediate_size": 100})
    assert main([str(tmp_path), "--outtype", "q4_0"]) == 0
    told = "f16 in place of q4_0, blocks of 32 do not divide rows of 100: blk.0.ffn_down.weight, blk.1.ffn_"
    assert told in capsys.readouterr().err


def test_errors_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    for arguments in (
        [],
        ["x", "--outtype", "q9"],
        ["x", "--split-max-size", "2X"],
        ["x", "--split-max-size", "0"],
    ):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 2


def test_the_module_runs_and_leaves_torch_alone(tmp_path: Path, shipped_checkpoint: Path) -> None:
    script = (
        "import sys, runpy\n"
        "sys.argv[1:] = sys.argv[1:]\n"
        "try:\n    runpy.run_module('ggufpy.convert', run_name='__main__')\n"
        "except SystemExit as exit:\n    assert exit.code == 0, exit.code\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    out = tmp_path / "x.gguf"
    command = [sys.executable, "-c", script, str(shipped_checkpoint), "-o", str(out)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{out}\n"
