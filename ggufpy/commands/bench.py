"""`ggufpy bench`: how fast a model runs, as llama-bench measures it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ggufpy.commands.bench_output import WRITERS, limits, record
from ggufpy.commands.console import run_command
from ggufpy.commands.parser import Parser
from ggufpy.commands.run_options import cache_options
from ggufpy.evaluate.speed import Speed, SpeedTest, measure
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.cpu import MOST_THREADS, apply_isa_setting, default_threads

_MOST_TOKENS = 2**24
_EPILOG = """
N,N,... are lists: each number is a test of its own, 0 is none. Beside the speed stands which part of the
machine's own was used, measured by turns with it: of the memory's, where tokens are generated (weights and KV
cache), of the multiply-adds' that it was done in, where a prompt is read (linears, without attention).
"""


def main(argv: list[str] | None = None) -> int:
    """Measure, print the results and return the exit status."""
    parser = Parser(
        prog="ggufpy bench", description="Measure how fast a model runs, as llama-bench does.", epilog=_EPILOG
    )
    option = parser.add_argument
    option("-m", "--model", type=Path, required=True, metavar="FILE", help="a GGUF file")
    for names, default, meaning in (
        (("-p", "--n-prompt"), [512], "tokens of a prompt; default: 512"),
        (("-n", "--n-gen"), [128], "tokens to generate; default: 128"),
        (("-d", "--n-depth"), [0], "tokens in the KV cache before; default: 0"),
        (("-t", "--threads"), None, "default: one per physical core"),
    ):
        option(*names, type=_numbers, default=default, metavar="N,N,...", help=meaning)
    cache_options(option)
    option("-r", "--repetitions", type=int, default=5, metavar="N", help="default: 5")
    option("-o", "--output", choices=WRITERS, default="md", help="default: md")
    arguments = parser.parse_args(argv)
    for name, values, least, most in (
        ("-p", arguments.n_prompt, 0, _MOST_TOKENS),
        ("-n", arguments.n_gen, 0, _MOST_TOKENS),
        ("-d", arguments.n_depth, 0, _MOST_TOKENS),
        ("-t", arguments.threads or (), 1, MOST_THREADS),
        ("-r", (arguments.repetitions,), 1, _MOST_TOKENS),
    ):
        for value in values:
            if not least <= value <= most:
                parser.error(f"{name} {value}: must be from {least} to {most}")
    if not any((*arguments.n_prompt, *arguments.n_gen)):
        parser.error("-p 0 -n 0: nothing to measure")
    return run_command(lambda: _bench(arguments))


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text:.40}' is not a list of whole numbers") from None


def _bench(arguments: argparse.Namespace) -> int:
    apply_isa_setting()
    tests = list(_tests(arguments))
    with GGUFFile.open(arguments.model) as file, _progress() as progress:
        speeds: list[Speed] = []
        for test in tests:
            task = progress.add_task(test.label, total=arguments.repetitions + 1)
            speeds.append(measure(file, test, arguments.repetitions, on_run=partial(progress.advance, task)))
        records = [record(file, speed) for speed in speeds]
    WRITERS[arguments.output](records)
    for line in limits(speeds):
        print(line, file=sys.stderr)
    return 0


def _tests(arguments: argparse.Namespace) -> Iterator[SpeedTest]:
    """In llama-bench's order."""
    types = (arguments.cache_type_k or "f16", arguments.cache_type_v or "f16")
    for n_threads in arguments.threads or [default_threads()]:
        for n_depth in arguments.n_depth:
            for n_prompt in filter(None, arguments.n_prompt):
                yield SpeedTest(n_prompt, 0, n_depth, n_threads, *types)
            for n_gen in filter(None, arguments.n_gen):
                yield SpeedTest(0, n_gen, n_depth, n_threads, *types)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
