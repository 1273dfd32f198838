"""`ggufpy convert`: turn a Hugging Face checkpoint into a GGUF file."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from ggufpy.commands.calibration_options import add_calibration, asked_of, byte_size, check_calibration
from ggufpy.commands.console import run_command, visible
from ggufpy.commands.parser import Parser
from ggufpy.commands.ranging import in_range, range_of
from ggufpy.commands.writing import show_plan, table, write_plan
from ggufpy.convert.pipeline import OUTTYPES, plan_conversion
from ggufpy.errors import UnsupportedModelError
from ggufpy.quants.choice.presets import find_preset
from ggufpy.quants.file import Options
from ggufpy.quants.ranges import Range


def main(argv: list[str] | None = None) -> int:
    """Convert one checkpoint and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    how = range_of(parser, arguments)
    if arguments.calibration:
        for option in ("split_max_size", "vocab_only"):
            if getattr(arguments, option):
                parser.error(f"--{option.replace('_', '-')} does not go with --calibration; leave it out")
        if arguments.outtype.lower() == "auto":
            parser.error("--calibration decides how weights are rounded: name a type, as --outtype q4_k_m")
        return run_command(lambda: _calibrate(arguments))
    check_calibration(parser, arguments, how)
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
    add_calibration(parser)
    parser.add_argument("--vocab-only", action="store_true", help="write the metadata, no tensors")
    parser.add_argument(
        "--dry-run", action="store_true", help="print tensors, types and sizes; write nothing"
    )
    parser.add_argument(
        "--split-max-size", type=byte_size, metavar="SIZE", help="split into files of at most SIZE: 500M, 2G"
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


def _calibrate(arguments: argparse.Namespace) -> int:
    """In two steps: the weights as they are, in a file beside the output, then that one quantized."""
    from ggufpy.commands.calibrating import quantize_calibrated

    plan = plan_conversion(arguments.checkpoint, arguments.outfile, outtype="auto")
    for note in plan.notes:
        print(visible(f"note: {note}", sys.stderr), file=sys.stderr)
    out: Path | None = arguments.outfile
    if out is None or out.is_dir():
        label = find_preset(arguments.outtype).label
        out = plan.path.with_name(f"{arguments.checkpoint.resolve().name}-{label}.gguf")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".ggufpy-") as folder:
        plan = replace(plan, path=Path(folder) / "as-it-is.gguf")
        plan.write()
        options = Options(imatrix=arguments.imatrix, allow_requantize=True)
        asked = asked_of(arguments)
        quantize_calibrated(plan.path, out, arguments.outtype, options, asked, dry_run=arguments.dry_run)
    return 0


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
