"""`ggufpy convert`: turn a Hugging Face checkpoint into a GGUF file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ggufpy.commands.console import run_command
from ggufpy.convert.pipeline import OUTTYPES, Plan, plan_conversion
from ggufpy.gguf.tensors import TensorSource

_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


def main(argv: list[str] | None = None) -> int:
    """Convert one checkpoint and return the exit status."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _convert(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ggufpy convert",
        description="Convert a Hugging Face checkpoint to GGUF; prints the file's path.",
    )
    parser.add_argument("checkpoint", type=Path, help="folder with config.json, weights and tokenizer")
    parser.add_argument(
        "-o", "--outfile", type=Path, help="default: FOLDER-TYPE.gguf within the checkpoint's folder"
    )
    parser.add_argument(
        "--outtype", choices=OUTTYPES, default="auto", help="default: auto (bf16 or f16, as it is)"
    )
    parser.add_argument("--vocab-only", action="store_true", help="write the metadata, no tensors")
    parser.add_argument(
        "--dry-run", action="store_true", help="print tensors, types and sizes; write nothing"
    )
    parser.add_argument(
        "--split-max-size", type=_size, metavar="SIZE", help="split into files of at most SIZE: 500M, 2G"
    )
    parser.add_argument("--verbose", action="store_true", help="list the tensors on stderr")
    return parser


def _size(text: str) -> int:
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not digits.isdecimal() or int(digits) == 0 or (unit and unit not in _UNITS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500M or 2G")
    return int(digits) * _UNITS.get(unit, 1)


def _convert(arguments: argparse.Namespace) -> int:
    plan = plan_conversion(
        arguments.checkpoint, arguments.outfile, outtype=arguments.outtype, vocab_only=arguments.vocab_only
    )
    sizes = plan.sizes(arguments.split_max_size)
    if arguments.dry_run:
        for line in (*_table(plan), *(f"{path}: {size:,} bytes" for path, size in sizes.items())):
            print(line)
        print(_summary(plan))
        return 0
    if arguments.verbose:
        for line in _table(plan):
            print(line, file=sys.stderr)
    with _progress(plan) as on_progress:
        paths = plan.write(split_max_size=arguments.split_max_size, on_progress=on_progress)
    for path in paths:
        print(path)
    return 0


def _table(plan: Plan) -> Iterator[str]:
    for source, tensor in zip(plan.sources, plan.tensors, strict=True):
        shape = " x ".join(map(str, tensor.shape))
        types = f"{source.type.label:>4} -> {tensor.type.label:<4}"
        yield f"{tensor.name:<28} {shape:<16} {types} {tensor.n_bytes:>13,}"


def _summary(plan: Plan) -> str:
    """One line: how many tensors, how large, and which could not have the type that was asked for."""
    n_bytes = sum(tensor.n_bytes for tensor in plan.tensors)
    parameters = sum(tensor.rows * tensor.columns for tensor in plan.tensors)
    if not parameters:
        return "vocabulary only, no tensors"
    bits = 8 * n_bytes / parameters
    line = f"{len(plan.tensors)} tensors, {n_bytes / 1e6:,.1f} MB, {bits:.2f} bits per weight"
    odd = [t for t in plan.tensors if t.type.label == "f16" and t.columns % plan.type.block_size]
    return line + (
        f"; {len(odd)} as f16: blocks of {plan.type.block_size} do not divide their rows" if odd else ""
    )


@contextmanager
def _progress(plan: Plan) -> Iterator[Callable[[TensorSource, int], None]]:
    """Progress on stderr: a bar with rate and time left on a terminal, elsewhere only the lines around it."""
    console = Console(stderr=True)
    total = sum(tensor.n_bytes for tensor in plan.tensors)
    console.print(f"{plan.path}: {_summary(plan)}", soft_wrap=True, highlight=False, markup=False)
    start = time.monotonic()
    columns = (
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda tensor, n_bytes: progress.update(task, advance=n_bytes, description=tensor.name)
    seconds = time.monotonic() - start
    rate = total / 1e6 / max(seconds, 1e-9)
    console.print(
        f"written in {seconds:.1f} s, {rate:,.0f} MB/s", soft_wrap=True, highlight=False, markup=False
    )
