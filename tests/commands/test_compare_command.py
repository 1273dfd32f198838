"""`ggufpy compare`: the table, JSON, the plot, and what costs are."""

import json
from pathlib import Path

import numpy as np
import pytest

from ggufpy import quantize_file
from ggufpy.commands import compare as command
from ggufpy.commands import perplexity
from ggufpy.commands.compare_output import Row, as_markdown
from ggufpy.commands.compare_plot import plot
from ggufpy.evaluate.against_base import AgainstBase
from ggufpy.evaluate.footprint import Footprint, footprint
from ggufpy.evaluate.speed import SpeedTest
from ggufpy.evaluate.statistics import statistics

QUICK = ["-c", "64", "--chunks", "3", "-p", "8", "-n", "2", "-r", "1", "-t", "1"]


@pytest.fixture(scope="module")
def q4_0(f16: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize_file(f16, tmp_path_factory.mktemp("q4_0") / "q4_0.gguf", "q4_0")[0]


@pytest.fixture
def text(tmp_path: Path, shipped_checkpoint: Path) -> Path:
    path = tmp_path / "text"
    path.write_bytes((shipped_checkpoint / "README.md").read_bytes())
    return path


def row(name: str, n_bytes: int, kl: float, cache: str = "f16") -> Row:
    values = np.full(20, kl)
    found = statistics(AgainstBase(values, values, values, values, np.ones(20)))
    return Row(Path(name), cache, n_bytes, 1000, found, Footprint(0.25, 100, 10, 3 * 2**30))


def test_models_are_compared(
    f16: Path, q4_0: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "plot.png"
    arguments = [str(q4_0), "--base", str(f16), "-f", str(text), *QUICK]
    assert command.main([*arguments, "--cache-types", "f16,q8_0", "-o", "json", "--plot", str(picture)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(Path(each["model"]).name, each["cache_type"]) for each in rows] == [
        *(("m.gguf", "f16"), ("m.gguf", "q8_0")),
        *(("q4_0.gguf", "f16"), ("q4_0.gguf", "q8_0")),
    ]
    base, cached, quantized, _ = (each["kl"]["value"] for each in rows)
    assert abs(base) < 1e-5 < cached < 1e-3 < quantized
    assert rows[0]["bits_per_weight"] == pytest.approx(16, abs=0.1)
    assert rows[2]["bytes"] < rows[0]["bytes"] / 3
    assert all(each["prompt_tokens_per_second"] > 0 < each["generated_tokens_per_second"] for each in rows)
    assert all(10e6 < each["peak_memory_bytes"] < 1e9 and 0 < each["load_seconds"] < 60 for each in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")
    # The same figures as `ggufpy perplexity` has.
    base_file = ["--kl-divergence-base", str(tmp_path / "base")]
    same = ["-f", str(text), *QUICK[:4], "-o", "json"]
    assert perplexity.main(["-m", str(f16), *base_file, *same]) == 0
    assert perplexity.main(["-m", str(q4_0), *base_file, "--kl-divergence", *same]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert quantized == pytest.approx(found["kl"]["value"], rel=1e-6)
    assert rows[2]["perplexity"]["value"] == pytest.approx(found["perplexity"], rel=1e-6)


def test_the_table_names_cache_types_if_there_are_several() -> None:
    one = [row("a/x.gguf", 2000, 0.0), row("b/y.gguf", 500, 0.125)]
    head, _, _, second = as_markdown(one).splitlines()
    assert "KV cache" not in head
    cells = [cell.strip() for cell in second.split("|")[1:-1]]
    assert cells[:5] == ["y.gguf", "4.00", "0.0 MiB", "1.133", "0.12500 ± 0.00000"]
    assert cells[-4:] == ["100", "10", "3.00 GiB", "0.25 s"]
    head, _, _, second, third = as_markdown([*one, row("b/x.gguf", 500, 0.1, "q8_0")]).splitlines()
    assert head.split("|")[2].strip() == "KV cache"
    assert [line.split("|")[1].strip() for line in (second, third)] == ["b/y.gguf", "b/x.gguf"]


def test_a_base_alone_has_a_plot(tmp_path: Path) -> None:
    plot(tmp_path / "plot.png", [row("x.gguf", 2000, 0.0)])
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_memory_is_that_of_a_process_of_its_own(q4_0: Path) -> None:
    ballast = np.ones(2**26)  # 512 MB that a child must not be charged for
    tests = SpeedTest(8, 0, 0, 1), SpeedTest(0, 2, 0, 1)
    assert footprint(q4_0, *tests, 1).peak < 400e6 < ballast.nbytes


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--cache-types", "q5_1"], 2, "a KV cache cannot have type 'q5_1'"),
        (["--chunks", "0"], 2, "--chunks 0: at least 1"),
        (["--plot", "plot.pdf"], 1, "let its name end in .png"),
        (["missing.gguf"], 1, "missing.gguf: no such file"),
        (["-c", "4000"], 1, "the text has"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    options: list[str], status: int, message: str, f16: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = command.main([str(f16), *options, "-f", str(text)])
    except SystemExit as stopped:
        found = int(str(stopped.code))
    captured = capsys.readouterr()
    assert (found, captured.out) == (status, "")
    assert message in captured.err


def test_a_plot_without_matplotlib_is_a_line(
    f16: Path, text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufpy.commands.compare.find_spec", lambda name: None)
    assert command.main([str(f16), "-f", str(text), "--plot", "x.png"]) == 1
    assert "pip install 'ggufpy[plots]'" in capsys.readouterr().err
