"""Speed of ggufpy beside what the memory gives and beside llama.cpp, on files with random weights.

    python benchmarks/compare.py generation --type q8_0 q4_0 --llama-cpp
    python benchmarks/compare.py prompt --type q4_0 --llama-cpp

All take turns, round by round, so that a slow moment of the machine hits all of them. Medians are printed,
and of the ratios the median over rounds with the smallest and the largest. In generation, a probe reads the
weights that a token needs, with as many threads, from a mapping of the same file.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

from contestants import PROMPT, LlamaCpp, Ours, Probe
from random_model import SHAPES, TYPES, count, random_model

from ggufpy.commands.console import run_command
from ggufpy.gguf.reader import GGUFFile

Times = dict[str, list[float]]


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Seconds of each contestant in each round, after one that does not count."""
    times: Times = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            seconds = run()
            if number > 0:
                times[name].append(seconds)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return times


def weight_bytes(file: GGUFFile) -> int:
    """Bytes that a token needs: all tensors, but of the embedding only if it is the output too."""
    tensors = file.tensors
    skipped = tensors["token_embd.weight"].data.nbytes if "output.weight" in tensors else 0
    return sum(tensor.data.nbytes for tensor in tensors.values()) - skipped


def compare_generation(path: Path, args: argparse.Namespace) -> dict[str, str]:
    """One row of the table: column, cell."""
    n_ctx = len(PROMPT) + args.tokens
    with GGUFFile.open(path) as file:
        n_bytes = weight_bytes(file)
        ours, probe = Ours(file, n_ctx, args.threads), Probe(path, n_bytes, args.threads)
        contestants = {
            "ggufpy": lambda: ours.generate(args.tokens),
            "probe": lambda: probe.generate(args.tokens),
        }
        if args.llama_cpp:
            theirs = LlamaCpp(path, n_ctx, args.threads)
            contestants["llama.cpp"] = lambda: theirs.generate(args.tokens)
        times = take_turns(contestants, args.rounds)
    row = {"GB": f"{n_bytes / 1e9:.3f}", **_rates(times, args.tokens)}
    for name in ("ggufpy", "probe"):
        row[f"{name} GB/s"] = f"{args.tokens * n_bytes / median(times[name]) / 1e9:.1f}"
    return row | _ratios(times)


def compare_prompt(path: Path, args: argparse.Namespace) -> dict[str, str]:
    """One row of the table: column, cell."""
    tokens = [100 + i % 3000 for i in range(args.tokens)]
    with GGUFFile.open(path) as file:
        ours = Ours(file, args.tokens, args.threads)
        contestants = {"ggufpy": lambda: ours.read_prompt(tokens)}
        if args.llama_cpp:
            theirs = LlamaCpp(path, args.tokens, args.threads)
            contestants["llama.cpp"] = lambda: theirs.read_prompt(tokens)
        times = take_turns(contestants, args.rounds)
    return _rates(times, args.tokens) | _ratios(times)


def _rates(times: Times, n_tokens: int) -> dict[str, str]:
    return {f"{name} tok/s": f"{n_tokens / median(seconds):.1f}" for name, seconds in times.items()}


def _ratios(times: Times) -> dict[str, str]:
    """Ggufpy's speed over that of each other one."""
    row = {}
    for name in times.keys() - {"ggufpy"}:
        ratios = [other / ours for other, ours in zip(times[name], times["ggufpy"], strict=True)]
        row[f"ggufpy / {name}"] = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return dict(sorted(row.items()))


def print_table(rows: Mapping[str, Mapping[str, str]]) -> None:
    """Markdown: a line per file, a column per figure."""
    columns = list(next(iter(rows.values())))
    print("| file |", " | ".join(columns), "|")
    print("|---|" + "---|" * len(columns))
    for name, row in rows.items():
        print(f"| {name} |", " | ".join(row[column] for column in columns), "|")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print a table and the command that made it."""
    parser = argparse.ArgumentParser(description="Compare ggufpy's speed with a memory probe and llama.cpp.")
    parser.add_argument("what", choices=("generation", "prompt"))
    parser.add_argument("-m", "--model", type=Path, help="a file, instead of one with random weights")
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    parser.add_argument("--type", choices=TYPES, nargs="+", default=["q8_0", "q4_0"])
    parser.add_argument("--layers", type=count, help="fewer layers than the shape has")
    parser.add_argument("-t", "--threads", type=count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-n", "--tokens", type=count, help="default: 32 to generate, 512 of a prompt")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--llama-cpp", action="store_true", help="llama.cpp takes turns too")
    args = parser.parse_args(argv)
    if args.tokens is None:
        args.tokens = 32 if args.what == "generation" else 512
    command = shlex.join(["python", "benchmarks/compare.py", *(sys.argv[1:] if argv is None else argv)])
    return run_command(lambda: _compare(args, command))


def _compare(args: argparse.Namespace, command: str) -> int:
    compare = compare_generation if args.what == "generation" else compare_prompt
    if args.model:
        rows = {args.model.name: compare(args.model, args)}
    else:
        rows = {f"{args.shape} {kind}": _with_random_model(compare, kind, args) for kind in args.type}
    print_table(rows)
    print(f"\n`{command}`, {args.threads} threads")
    return 0


def _with_random_model(
    compare: Callable[[Path, argparse.Namespace], dict[str, str]], kind: str, args: argparse.Namespace
) -> dict[str, str]:
    shape = SHAPES[args.shape]
    if args.layers is not None:
        shape = replace(shape, layers=args.layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{args.shape}-{kind}.gguf"
        random_model(path, shape, TYPES[kind])
        return compare(path, args)


if __name__ == "__main__":
    sys.exit(main())
