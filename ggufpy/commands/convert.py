"""`ggufpy convert`: turn a Hugging Face checkpoint into a GGUF file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ggufpy.commands.console import run_command, visible
from ggufpy.commands.parser import Parser
from ggufpy.commands.ranging import add_method, in_range, range_of
from ggufpy.commands.writing import show_plan, table, write_plan
from ggufpy.convert.pipeline import OUTTYPES, plan_conversion
from ggufpy.errors import UnsupportedModelError
from ggufpy.quants.choice.presets import find_preset
from ggufpy.quants.ranges import RANGES, Range

_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


def main(argv: list[str] | None = None) -> int:
    """Convert one checkpoint and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    how = range_of(parser, arguments)
    if arguments.method and how is None:
        needs = f"--method {','.join(arguments.method)} needs a text"
        parser.error(f"{needs}; convert without, then see ggufpy quantize --calibration")
    return run_command(lambda: _convert(arguments, how))


def _parser() -> Parser:
    parser = Parser(
        prog="ggufpy convert",
        description="Convert a Hugging Face checkpoint to GGUF; prints the file's path.",
    )
    parser.add_argument("checkpoint", type=Path, help="folder with config.json, weights and tokenizer")
    parser.add_argument(
        "-o", "--outfile", type=Path, help="default: FOLDER-TYPE.gguf within the checkpoint's folder"
    )
    parser.add_argument(
        "--outtype",
        type=_outtype,
        default="auto",
        metavar="TYPE",
        help=f"{', '.join(OUTTYPES)}; default: auto (bf16 or f16 as it is, f16 of others)",
    )
    parser.add_argument("--imatrix", metavar="FILE", help="importance of the columns, by llama-imatrix")
    add_method(parser, f"how scales of blocks are chosen: {', '.join(RANGES)}; default: as llama.cpp")
    parser.add_argument("--vocab-only", action="store_true", help="write the metadata, no tensors")
    parser.add_argument(
        "--dry-run", action="store_true", help="print tensors, types and sizes; write nothing"
    )
    parser.add_argument(
        "--split-max-size", type=_size, metavar="SIZE", help="split into files of at most SIZE: 500M, 2G"
    )
    parser.add_argument("--verbose", action="store_true", help="list the tensors on stderr")
    return parser


def _outtype(text: str) -> str:
    if text.lower() != "auto":
        try:
            find_preset(text)
        except UnsupportedModelError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _size(text: str) -> int:
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not digits.isdecimal() or int(digits) == 0 or (unit and unit not in _UNITS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500M or 2G")
    return int(digits) * _UNITS.get(unit, 1)


def _convert(arguments: argparse.Namespace, how: Range | None) -> int:
    plan = plan_conversion(
        arguments.checkpoint,
        arguments.outfile,
        outtype=arguments.outtype,
        imatrix=arguments.imatrix,
        vocab_only=arguments.vocab_only,
    )
    if how is not None:
        plan = replace(plan, **in_range(plan.metadata, plan.planned, how, None))
    for note in plan.notes:
        print(visible(f"note: {note}", sys.stderr), file=sys.stderr)
    if arguments.dry_run:
        show_plan(plan, plan.sizes(arguments.split_max_size))
        for line in plan.of_packed():
            print(line)
        return 0
    if arguments.verbose:
        for line in table(plan.planned):
            print(line, file=sys.stderr)
    write_plan(plan, lambda tell: plan.write(split_max_size=arguments.split_max_size, on_progress=tell))
    for line in plan.of_packed():
        print(line, file=sys.stderr)
    return 0
