"""`ggufpy bench`: the tests it makes, their results and how they are printed; and the machine's limits."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ggufpy._kernels import lib
from ggufpy.commands.bench import main
from ggufpy.evaluate.probes import ARITHMETIC, PeakProbe, ReadProbe
from ggufpy.evaluate.speed import SpeedTest, measure, read_bytes
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.runtime.engine import Engine

LLAMA_BENCH_FIELDS = {
    *("cpu_info", "backends", "model_filename", "model_type", "model_size", "model_n_params", "n_batch"),
    *("n_ubatch", "n_threads", "type_k", "type_v", "use_mmap", "n_prompt", "n_gen", "n_depth", "test_time"),
    *("avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts"),
}


@pytest.fixture(autouse=True)
def _short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggufpy.evaluate.probes._SECONDS", 0.001)


def results(options: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main([*options, "-o", "json"]) == 0
    records: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return records


def test_a_result_has_llama_benchs_fields(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-m", str(small), "-p", "6", "-n", "4", "-t", "1", "-r", "3"]
    prompt, generation = results(options, capsys)
    with GGUFFile.open(small) as file:
        assert prompt["model_n_params"] == sum(math.prod(t.shape) for t in file.tensors.values())
        assert prompt["model_size"] == sum(t.data.nbytes for t in file.tensors.values())
    for record, tokens in ((prompt, 6), (generation, 4)):
        assert record.keys() >= LLAMA_BENCH_FIELDS
        assert record["model_filename"] == str(small)
        assert (record["n_threads"], record["n_depth"], len(record["samples_ns"])) == (1, 0, 3)
        assert record["samples_ts"] == [1e9 * tokens / ns for ns in record["samples_ns"]]
        assert record["avg_ts"] == pytest.approx(sum(record["samples_ts"]) / 3)
        assert record["stddev_ts"] > 0
        assert datetime.fromisoformat(record["test_time"]).tzinfo is not None
    assert (prompt["n_prompt"], prompt["n_gen"], generation["n_prompt"], generation["n_gen"]) == (6, 0, 0, 4)


def test_prompts_are_held_against_arithmetic_generation_against_memory(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt, generation = results(["-m", str(small), "-p", "6", "-n", "4", "-r", "1"], capsys)
    assert prompt["peak_share"] > 0 and prompt["peak_gmacs"] > 0 and prompt["peak_arithmetic"] in ARITHMETIC
    assert generation["read_share"] > 0 and generation["read_gbps"] > 0
    assert prompt["read_share"] is prompt["read_gbps"] is None
    assert generation["peak_share"] is generation["peak_gmacs"] is generation["peak_arithmetic"] is None


def test_lists_make_a_test_of_each_number(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-m", str(small), "-p", "3,5", "-n", "2", "-d", "0,33", "-t", "1,2", "-r", "1"]
    made = [(r["n_threads"], r["n_depth"], r["n_prompt"], r["n_gen"]) for r in results(options, capsys)]
    expected = [(t, d, p, n) for t in (1, 2) for d in (0, 33) for p, n in ((3, 0), (5, 0), (0, 2))]
    assert made == expected


@pytest.mark.parametrize(("options", "labels"), [("-p 0 -n 2", ["tg2"]), ("-p 2,0 -n 0,0", ["pp2"])])
def test_zero_leaves_a_test_out(
    options: str, labels: list[str], small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", str(small), "-r", "1", *options.split()]) == 0
    captured = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")] for line in captured.out.splitlines()]
    assert [row[6] for row in rows] == ["test", rows[1][6], *labels]
    assert labels[0] in captured.err


def test_tables_say_depth_and_shares(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", str(small), "-p", "4", "-n", "2", "-d", "8", "-r", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header, _, prompt, generation = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert header == [
        "model", "size", "params", "backend", "threads", "test", "t/s", "read share", "peak share"
    ]  # fmt: skip
    assert (prompt[5], generation[5]) == ("pp4 @ d8", "tg2 @ d8")
    assert " ± " in prompt[6]
    assert (prompt[7], generation[8]) == ("", "")
    assert prompt[8].endswith(" %") and generation[7].endswith(" %")
    assert len({len(line) for line in lines}) == 1


def test_csv_has_a_line_per_test(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", str(small), "-p", "4", "-n", "2", "-r", "2", "-o", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["n_prompt"], row["n_gen"]) for row in rows] == [("4", "0"), ("0", "2")]
    assert float(rows[0]["avg_ts"]) > 0
    assert (rows[0]["read_share"], rows[1]["peak_share"]) == ("", "")


@pytest.mark.parametrize(
    "options",
    ["-p -1", "-n x", "-n 1,", "-d 1.5", "-t 0", "-t 513", "-r 0", "-o xml", "-p 0 -n 0", "-p 99999999999"],
)
def test_senseless_options_are_usage_errors(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["-m", "model.gguf", *options.split()])
    assert status.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["missing.gguf", "text"])
def test_no_model_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("some text")
    assert main(["-m", str(tmp_path / name)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1


def test_the_work_is_what_the_program_computes(small: Path) -> None:
    with GGUFFile.open(small) as file:
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        macs = {name: math.prod(shape) for name, shape in shapes.items() if len(shape) == 2}
        last = max(int(name.split(".")[1]) for name in macs if name.startswith("blk."))
        for name in macs:
            after = name.startswith(f"blk.{last}.") and not name.endswith(("_k.weight", "_v.weight"))
            macs[name] *= 0 if name == "token_embd.weight" else 1 if after or name == "output.weight" else 7
        prompt = measure(file, SpeedTest(7, 0, 3, 1), 1)
        assert prompt.work == sum(macs.values())
        generation = measure(file, SpeedTest(0, 2, 3, 1), 1)
        weights = sum(4 * math.prod(shapes[name]) for name, n in macs.items() if n)
        engine = Engine.load(file, n_ctx=32)
        assert read_bytes(engine, file) == weights
        assert generation.work == 2 * weights + engine.bytes_read(3) + engine.bytes_read(4)


@pytest.fixture
def cpu_flags() -> Iterator[None]:
    yield
    lib.gg_use_cpu_flags(0xFFFFFFFF)


@pytest.mark.usefixtures("cpu_flags")
def test_peaks_are_of_instructions_in_use() -> None:
    lib.gg_use_cpu_flags(0)
    assert lib.gg_peak_probe(ARITHMETIC["int8"], 2, 2) == 0
    pieces = lib.gg_peak_probe(ARITHMETIC["f32"], 10, 2)
    assert pieces == 10 * lib.gg_peak_probe(ARITHMETIC["f32"], 1, 1) > 0
    assert PeakProbe("f32", 1).rate() > 0


@pytest.mark.usefixtures("cpu_flags")
def test_a_prompt_is_held_against_the_operands_it_is_multiplied_in(small: Path) -> None:
    names = {operand: name for name, operand in ARITHMETIC.items()}
    with GGUFFile.open(small) as file:
        for flags in (lib.gg_cpu_flags(), 0):
            lib.gg_use_cpu_flags(flags)
            wanted = names[lib.gg_wide_operand(GGMLType.F32)]
            assert measure(file, SpeedTest(7, 0, 0, 1), 1).arithmetic == wanted
    assert wanted == "f32"


def test_the_probe_reads_every_word_of_its_tensors(small: Path) -> None:
    with GGUFFile.open(small) as file:
        name = "blk.1.ffn_up.weight"
        tensor = file.tensors[name]
        probe = ReadProbe([tensor], 2)
        assert probe.read() == tensor.data.nbytes
        assert probe.sum == int(tensor.data.view("<u8").sum(dtype="<u8"))
        everything = ReadProbe(file.tensors.values(), 2).read()
        assert sum(t.data.nbytes for t in file.tensors.values()) <= everything < small.stat().st_size
