"""Speed of ggufpy beside what the machine can do and beside llama.cpp, on files with random weights.

    python benchmarks/compare.py generation --type q8_0 q4_0 --llama-cpp
    python benchmarks/compare.py prompt --type q4_0 --peer path/to/llama-bench
    python benchmarks/compare.py sequences --type q4_0        # 8 together, beside one
    python benchmarks/compare.py depth --type q4_0 --kv f16   # 8192 tokens in the KV cache, beside none
    python benchmarks/compare.py neighbour --type q4_0        # a busy process on one CPU, beside none
    python benchmarks/compare.py start --type q4_k            # a fresh process to its first token

All take turns, round by round, so that a slow moment of the machine hits all of them. Medians are printed,
and of the ratios the median over rounds with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from modes import MODES
from random_model import TYPES, count, random_model
from shapes import SHAPES
from turns import Row, print_table

from ggufpy.commands.console import run_command


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print a table and the command that made it."""
    parser = argparse.ArgumentParser(description="Compare ggufpy's speed with the machine's and llama.cpp's.")
    parser.add_argument("what", choices=MODES)
    parser.add_argument("-m", "--model", type=Path, help="a file, instead of one with random weights")
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    parser.add_argument("--type", choices=TYPES, nargs="+", default=["q8_0", "q4_0"])
    parser.add_argument("--layers", type=count, help="fewer layers than the shape has")
    parser.add_argument("-t", "--threads", type=count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-n", "--tokens", type=count, help="default: 16 to 64 to generate, 512 of a prompt")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--llama-cpp", action="store_true", help="llama.cpp takes turns too, from xllamacpp")
    parser.add_argument("--peer", type=Path, metavar="PATH", help="a llama-bench that takes turns too")
    parser.add_argument("--sequences", type=count, default=8, help="that generate together; default: 8")
    parser.add_argument("--depth", type=count, default=8192, help="tokens in the KV cache; default: 8192")
    parser.add_argument("--kv", nargs="+", default=["f16"], help="types of the KV cache; default: f16")
    args = parser.parse_args(argv)
    if (args.llama_cpp or args.peer) and args.what not in ("generation", "prompt"):
        parser.error(f"{args.what}: only ggufpy's own speed is compared")
    if args.tokens is None:
        args.tokens = MODES[args.what][1]
    command = shlex.join(["python", "benchmarks/compare.py", *(sys.argv[1:] if argv is None else argv)])
    return run_command(lambda: _compare(args, command))


def _compare(args: argparse.Namespace, command: str) -> int:
    compare, _ = MODES[args.what]
    if args.model:
        rows = {args.model.name: compare(args.model, args)}
    else:
        rows = {f"{args.shape} {kind}": _with_random_model(compare, kind, args) for kind in args.type}
    print_table(rows)
    print(f"\n`{command}`, {args.threads} threads")
    return 0


def _with_random_model(
    compare: Callable[[Path, argparse.Namespace], Row], kind: str, args: argparse.Namespace
) -> Row:
    shape = SHAPES[args.shape]
    if args.layers is not None:
        shape = replace(shape, layers=args.layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{args.shape}-{kind}.gguf"
        random_model(path, shape, TYPES[kind])
        return compare(path, args)


if __name__ == "__main__":
    sys.exit(main())
