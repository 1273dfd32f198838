"""`ggufpy quantize`: what it prints, promises and returns."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import random_llama
from quantizing import matrix_for, types, wide_checkpoint

from ggufpy import convert_checkpoint
from ggufpy.commands.quantize import main
from ggufpy.gguf.reader import GGUFFile


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_command(tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    status, stdout, stderr = run(capsys, small, out, "Q4_K_M", "2")
    assert (status, stdout) == (0, f"{out}\n")
    lines = [line for line in stderr.splitlines() if not line.startswith("compiling ")]  # the first time only
    assert lines[0].startswith(f"{out}: 21 tensors") and lines[1].startswith("written in")
    assert lines[2].startswith("types: 13 q4_K") and lines[-1].endswith("bits per weight")
    status, stdout, _ = run(capsys, small, "q4_0")
    assert stdout == f"{tmp_path / 'ggml-model-Q4_0.gguf'}\n"


def test_dry_run_gives_the_exact_size(
    tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.gguf"
    _, stdout, stderr = run(capsys, "--dry-run", small, out, "q5_k_s")
    assert not out.exists() and not stderr
    run(capsys, small, out, "q5_k_s")
    assert stdout.splitlines()[-1] == f"{out}: {out.stat().st_size:,} bytes"
    assert stdout.count(" -> ") == 21 + 1


def test_the_summary_tells_what_did_not_fit(
    tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide_checkpoint(tmp_path, shipped_checkpoint)
    (path,) = convert_checkpoint(tmp_path, tmp_path / "x.gguf", outtype="bf16")
    matrix = matrix_for(tmp_path / "m.gguf", path)
    arguments = [path, "q4_k_m", "--dry-run", "--imatrix", matrix, "--exclude-weights", "attn_k"]
    _, stdout, _ = run(capsys, *arguments)
    down = "blk.0.ffn_down.weight"
    assert f"q8_0 in place of q6_K, blocks of 256 do not divide rows of 288: {down}" in stdout.replace(
        "blk.1.ffn_down.weight", down
    )
    assert "not in the importance matrix: blk.0.attn_k.weight, blk.1.attn_k.weight\n" in stdout


def test_options_of_the_command(tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, listed = tmp_path / "x.gguf", tmp_path / "types.txt"
    listed.write_text("attn_v=q5_1\nffn_down=q5_0\n")
    options = "--pure --output-tensor-type q6_k --token-embedding-type q8_0 --tensor-type attn_q=q4_1"
    more = "--override-kv general.name=str:a=b:c --override-kv x.y=bool:true --override-kv x.z=float:0.5"
    arguments = [*options.split(), *more.split(), "--tensor-type-file", listed, "--prune-layers", "0"]
    assert run(capsys, *arguments, small, out, "q4_0", "1")[0] == 0
    chosen = types(out)
    assert {name.split(".")[-2]: type for name, type in chosen.items() if type != "f32"} == {
        "output": "q6_K",
        "token_embd": "q8_0",
        "attn_q": "q4_1",
        "attn_k": "q4_0",
        "attn_v": "q5_1",
        "attn_output": "q4_0",
        "ffn_gate": "q4_0",
        "ffn_up": "q4_0",
        "ffn_down": "q5_0",
    }
    with GGUFFile.open(out) as file:
        assert file.metadata["general.name"] == "a=b:c" and file.metadata["x.y"] is True
        assert file.metadata["x.z"] == 0.5 and file.metadata["llama.block_count"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "in.gguf",
        "in.gguf out.gguf",
        "in.gguf out.gguf q9",
        "in.gguf out.gguf q4_0 0",
        "in.gguf out.gguf q4_0 two",
        "in.gguf out.gguf q4_0 2 3",
        "in.gguf q4_0 --tensor-type attn_q",
        "in.gguf q4_0 --tensor-type attn_q=q9",
        "in.gguf q4_0 --tensor-type-file absent",
        "in.gguf q4_0 --output-tensor-type q9",
        "in.gguf q4_0 --prune-layers 1,x",
        "in.gguf q4_0 --override-kv key=u8:1",
        "in.gguf q4_0 --override-kv key=int:x",
        "in.gguf q4_0 --override-kv key=bool:maybe",
        "in.gguf q4_0 --search deep",
        "in.gguf q4_0 --method gptq",
        "in.gguf q4_0 --calibration-chunks 3",
    ],
)
def test_usage_errors(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments.split())
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: ") and "see ggufpy quantize --help" in error


def test_errors_in_one_line(tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([tmp_path / "absent", "q4_0"], [small, "q2_k_s"], [small, "q4_0", "--imatrix", small]):
        status, stdout, stderr = run(capsys, *arguments)
        assert (status, stdout) == (1, "") and stderr.startswith("error: ") and stderr.count("\n") == 1


def test_the_list_of_types_is_no_output(
    tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (listed := tmp_path / "types.txt").write_text("attn_v=q5_1")
    status, stdout, stderr = run(capsys, "--tensor-type-file", listed, small, listed, "q4_0")
    assert (status, stdout) == (1, "") and "which is read; write to another name" in stderr
    assert listed.read_text() == "attn_v=q5_1"


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    arrays = random_llama.arrays() | {"token_embd.weight": np.ones((20_000, 1024), np.float32)}
    path = random_llama.write(tmp_path / "big.gguf", arrays)
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "ggufpy.quantize", str(path), str(out / "x.gguf"), "q4_k_m", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None and "tensors" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stderr.close()
    assert not list(out.iterdir())
