"""Command lines as people have them for llama-cli."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_llama

import ggufpy
from ggufpy.__main__ import COMMANDS
from ggufpy.__main__ import main as door
from ggufpy.commands.llama_flags import remedies
from ggufpy.commands.run import main
from ggufpy.commands.run_options import run_parser, sampling_params

TOKENS = ["<unk>", "<s>", "</s>", *(chr(ord(" ") + i) for i in range(random_llama.VOCAB - 3))]


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = random_llama.write(
        tmp_path / "model.gguf",
        random_llama.arrays(),
        tokenizer__ggml__tokens=TOKENS,
        tokenizer__ggml__token_type=[2, 3, 3, *[1] * (random_llama.VOCAB - 3)],
    )
    return str(path)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        door(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    return error


def test_flags_without_an_effect_change_nothing(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["-m", model, "-no-cnv", "-p", "a", "-n", "4", "-s", "1", "--no-perf"]
    assert main(line) == 0
    plain = capsys.readouterr()
    flags = """-ngl 99 --n-gpu-layers all -fa -fa on --flash-attn off --jinja --color --color auto -tb 4
        -ub 512 -b 2048 -sm none -mg 0 -ts 3,1 --no-warmup --simple-io -v -lv 3 --numa isolate"""
    assert main([*line, *flags.split()]) == 0
    assert capsys.readouterr() == plain and plain.err == ""


def test_no_flag_is_a_short_one_with_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    lacking = """-cl -cb -ctkd -md -mu -mm -mli -sp -sps -td -to -npp -npl -ntg -pps -ptc -fitp -rea -ns -nocb
        -hf -hft -hfd -dr -devd -otd -lr -tts -c4 -n=4x"""
    for name in lacking.split():
        assert refused(["run", name, "x"], capsys)
    assert refused(["run", "-ngl"], capsys).startswith("error: argument -ngl: expected one argument")
    plain = run_parser().parse_args([])
    for taken in (
        "-ngl 9",
        "-nkvo",
        "-nr",
        "-ncmoe 1",
        "-sm row",
        "-ts 1",
        "-tb 2",
        "-cms 1",
        "-ctxcp 1",
        "-fa",
    ):
        assert run_parser().parse_args(taken.split()) == plain, taken


def test_what_is_missing_is_refused_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    for line, message in (
        ("-hf user/repo:Q4_K_M", "-hf: not supported; download the model, and name the file with -m"),
        ("--model-draft F", "--model-draft: not supported; leave it out"),
        (
            "--override-kv a=int:1",
            "--override-kv: not supported; change the file: ggufpy quantize --override-kv",
        ),
        ("--grammar_file F", "--grammar-file: not supported; see ggufpy run --help"),
        ("--lora=F", "--lora: not supported; merge it"),
        ("-n4", "-n4: not supported"),
    ):
        assert f"error: {message}" in refused(["run", "-ngl", "9", *line.split()], capsys)


def test_no_flag_is_known_and_refused() -> None:
    parser = run_parser()
    for name, help in remedies().items():
        assert name == "" or (name.startswith("-") and name not in parser._option_string_actions), name
        assert help and "\n" not in help


def test_names_are_whole_but_for_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = run_parser().parse_args(["--ctx_size", "64", "--top_k=3", "--n-predict=5", "-p", "--a_b c"])
    assert (arguments.ctx_size, arguments.top_k, arguments.predict) == (64, 3, 5)
    assert arguments.prompt == "--a_b c"
    for line in (
        "run --ctx 4",
        "run -no-cn",
        "inspect --outp json x",
        "bench --mod x",
        "perplexity --chunk 1",
    ):
        assert "error: " in refused(line.split(), capsys)
    for line in ("convert --verb x", "quantize --pur x copy"):
        assert f"error: {line.split()[1]}: not supported" in refused(line.split(), capsys)


def test_the_last_of_two_counts() -> None:
    parse = run_parser().parse_args
    assert [parse(line.split()).no_conversation for line in ("", "-cnv", "-no-cnv", "-no-cnv -cnv")] == [
        False,
        False,
        True,
        False,
    ]
    assert [parse(line.split()).escape for line in ("", "--no-escape", "--no-escape -e")] == [
        True,
        False,
        True,
    ]


def test_every_command_tells_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert door(["--version"]) == 0
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            door([command, "--version"])
        assert stopped.value.code == 0
    assert capsys.readouterr().out == f"ggufpy {ggufpy.__version__}\n" * (1 + len(COMMANDS))


def test_numbers_of_the_sampler() -> None:
    line = "--temperature 0.5 --typical-p 0.9 --repeat-last-n 8 --presence-penalty 1.5 --frequency-penalty -1"
    arguments = run_parser().parse_args(line.split())
    params = sampling_params(arguments, {"general.sampling.": 0.25, "general.sampling.penalty_last_n": -1})
    assert (params.temp, params.typical_p, params.repeat_last_n) == (0.5, 0.9, 8)
    assert (params.presence_penalty, params.frequency_penalty) == (1.5, -1.0)
    assert sampling_params(run_parser().parse_args([]), {}).repeat_last_n == 64
