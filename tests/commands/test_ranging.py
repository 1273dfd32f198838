"""`--method` and `--granularity`: scales by the weights alone, when quantizing and converting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_llama
from oracle import Oracle, needs_oracle
from quantizing import logits, types, wide_checkpoint
from random_llama import TOKENS, nmse

from ggufpy.calibrate.methods import methods_of
from ggufpy.commands import convert
from ggufpy.commands.quantize import main
from ggufpy.errors import FormatError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.quants.grids import GRIDS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(random_llama.write(tmp_path_factory.mktemp("range") / "model.gguf", random_llama.arrays()))


def test_a_scale_for_a_row(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.gguf")
    line = ["--pure", "--method", "mse", "--granularity", "channel", model, out, "q4_0"]
    assert main([*line, "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert main(line) == 0 and said == f"{out}: {Path(out).stat().st_size:,} bytes"
    file = GGUFFile.open(out)
    assert file.metadata["ggufpy.quantize.method"] == "mse,channel"
    tensor = file.tensors["blk.0.ffn_down.weight"].source()
    of = GRIDS[tensor.type].parts(tensor.read(0, tensor.rows))
    assert (of.d == of.d[:, :1]).all() and len(np.unique(of.d)) > 9


@needs_oracle
@pytest.mark.parametrize(
    ("type", "method"), [("q4_1", "zero-point"), ("q4_k_m", "mse"), ("iq4_nl", "percentile=99.5")]
)
def test_files_are_plain_ones(model: str, tmp_path: Path, type: str, method: str) -> None:
    out = tmp_path / "out.gguf"
    assert main(["--pure", "--method", method, model, str(out), type]) == 0
    with Oracle(out, kv_f32=True) as oracle:
        assert nmse(oracle.logits(TOKENS), logits(out)) < 1e-2  # it rounds activations


def test_converting_is_quantizing(
    tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = wide_checkpoint(tmp_path / "checkpoint", shipped_checkpoint)
    options = ["--method", "absmax", "--granularity", "group=96"]
    one, two, plain = (str(tmp_path / name) for name in ("one.gguf", "two.gguf", "plain.gguf"))
    assert convert.main([str(folder), "-o", plain, "--outtype", "f32"]) == 0
    assert convert.main([str(folder), "-o", one, "--outtype", "q4_0", *options]) == 1
    assert "groups of 96 do not fit q6_K, a scale per 16 weights, in rows of 256" in capsys.readouterr().err
    options[-1] = "tensor"
    assert convert.main([str(folder), "-o", one, "--outtype", "q4_0", *options]) == 0
    assert main([*options, plain, two, "q4_0"]) == 0
    assert Path(one).read_bytes() == Path(two).read_bytes()
    assert "q4_0" in types(Path(one)).values()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--method mse --calibration t", "--method mse looks at the weights alone; leave out --calibration"),
        ("--method mse --imatrix t", "--method mse looks at the weights alone; leave out --imatrix"),
        ("--method absmax --search thorough", "--method absmax and --search thorough are two ways"),
        ("--method gptq", "say how --calibration works, which is not given"),
        ("--granularity channel", "--granularity goes with a --method of absmax"),
        (
            "--method mse --granularity row",
            "granularity 'row' is unknown; known are tensor, channel, group=N",
        ),
        ("--method percentile=20", "P above 50 and at most 100"),
        ("--method mse,gptq", "method mse chooses scales in its own way; name it alone"),
    ],
)
def test_senseless_options(
    model: str, arguments: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments.split(), model, "q4_0"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and problem in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("type", "problem"),
    [
        ("f16", "--method mse: no tensor becomes blocks; name a type such as q4_0"),
        ("copy", "--method mse: no tensor becomes blocks"),
        ("iq3_s", "tensor 'output.weight': iq3_s has no free scale for mse; choose a type of q4_0, q4_1"),
    ],
)
def test_types_without(
    model: str, tmp_path: Path, type: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--pure"] if type == "iq3_s" else []
    assert main([*options, "--method", "mse", model, str(tmp_path / "out.gguf"), type]) == 1
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1 and not (tmp_path / "out.gguf").exists()


def test_methods_by_name() -> None:
    assert methods_of("Percentile=99.9") == ("percentile=99.9",)
    with pytest.raises(FormatError, match="method 'least' is unknown; known are "):
        methods_of("least")
