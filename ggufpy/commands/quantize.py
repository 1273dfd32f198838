"""`ggufpy quantize`: write a GGUF file anew with its tensors in other types."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ggufpy.commands.calibration_options import add_calibration, asked_of, check_calibration
from ggufpy.commands.console import run_command
from ggufpy.commands.parser import Parser, utf8
from ggufpy.commands.ranging import in_range, range_of
from ggufpy.commands.writing import show_plan, write_plan
from ggufpy.errors import GgufpyError
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, ValueType
from ggufpy.quants.choice.presets import PRESETS, find_preset
from ggufpy.quants.file import COPY, Options, plan_quantization
from ggufpy.quants.ranges import Range

_USAGE = "ggufpy quantize [options] IN.gguf [OUT.gguf] TYPE [THREADS]"


def main(argv: list[str] | None = None) -> int:
    """Quantize one file and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        source, out, type, threads = _positionals(arguments.files)
    except ValueError as error:
        parser.error(str(error))
    options = _options(arguments)
    options["threads"] = threads
    listed, _ = arguments.tensor_type_file
    how = range_of(parser, arguments)
    if arguments.calibration:
        return run_command(lambda: _calibrate(source, out, type, options, listed, arguments))
    check_calibration(parser, arguments, how)
    return run_command(lambda: _quantize(source, out, type, options, listed, how, dry_run=arguments.dry_run))


def _calibrate(
    source: Path,
    out: Path | None,
    type: str,
    options: Options,
    listed: Path | None,
    arguments: argparse.Namespace,
) -> int:
    from ggufpy.commands.calibrating import quantize_calibrated

    asked = asked_of(arguments, [listed] if listed else [])
    quantize_calibrated(source, out, type, options, asked, dry_run=arguments.dry_run)
    return 0


def _quantize(
    source: Path,
    out: Path | None,
    type: str,
    options: Options,
    listed: Path | None,
    how: Range | None,
    *,
    dry_run: bool,
) -> int:
    plan = plan_quantization(source, out, type, **options)
    if how is not None:
        plan = replace(plan, **in_range(plan.metadata, plan.planned, how, options.get("threads")))
    if listed is not None:
        plan.inputs.note(listed)
    if dry_run:
        show_plan(plan, plan.sizes())
    else:
        write_plan(plan, plan.write)
    return 0


def _parser() -> Parser:
    names = ", ".join(preset.label for preset in PRESETS)
    parser = Parser(
        prog="ggufpy quantize",
        usage=_USAGE,
        description="Write a GGUF file anew with its tensors in other types; prints the new file's path.",
        epilog=f"TYPE: {names}, their ids in llama.cpp, or {COPY}. OUT.gguf: by default ggml-model-TYPE.gguf "
        "beside IN.gguf. THREADS: by default one per core.",
    )
    parser.add_argument("files", nargs="+", metavar="IN.gguf [OUT.gguf] TYPE [THREADS]")
    _add_matrix_options(parser)
    add_calibration(parser)
    _add_type_options(parser)
    _add_file_options(parser)
    return parser


def _add_matrix_options(parser: Parser) -> None:
    parser.add_argument("--imatrix", metavar="FILE", help="importance of the columns, by llama-imatrix")
    for name, does in (("include", "use only"), ("exclude", "do not use")):
        parser.add_argument(
            f"--{name}-weights",
            type=utf8,
            action="append",
            default=[],
            metavar="NAME",
            help=f"{does} importance for tensors with NAME in their names; repeatable",
        )


def _add_type_options(parser: Parser) -> None:
    parser.add_argument("--pure", action="store_true", help="all matrices in one type, no mixture")
    parser.add_argument("--output-tensor-type", type=_type, metavar="TYPE", help="of output.weight")
    parser.add_argument("--token-embedding-type", type=_type, metavar="TYPE", help="of token_embd.weight")
    parser.add_argument(
        "--tensor-type",
        type=_tensor_type,
        action="append",
        default=[],
        metavar="NAME=TYPE",
        help="of tensors whose names match the regular expression; repeatable, the first match counts",
    )
    parser.add_argument(
        "--tensor-type-file",
        type=_tensor_types,
        default=(None, []),
        metavar="FILE",
        help="NAME=TYPE, one per line",
    )
    parser.add_argument("--leave-output-tensor", action="store_true", help="output.weight stays as it is")
    parser.add_argument(
        "--allow-requantize", action="store_true", help="quantize what is quantized already, with more error"
    )
    parser.add_argument(
        "--search",
        choices=("reference", "thorough"),
        default="reference",
        help="thorough takes longer to lose less; default: reference, as llama.cpp",
    )


def _add_file_options(parser: Parser) -> None:
    parser.add_argument("--keep-split", action="store_true", help="as many files as the input has")
    parser.add_argument(
        "--prune-layers", type=_layers, default=[], metavar="N,...", help="layers to leave out, from 0"
    )
    parser.add_argument(
        "--override-kv",
        type=_entry,
        action="append",
        default=[],
        metavar="KEY=TYPE:VALUE",
        help="set metadata; TYPE is int, float, bool or str; repeatable",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print tensors, types and sizes; write nothing"
    )


def _positionals(words: list[str]) -> tuple[Path, Path | None, str, int | None]:
    """Input, output, type, threads; raises ValueError for what is not that."""
    first, *rest = words
    out = None if rest and _is_preset(rest[0]) else rest[:1]
    rest = rest if out is None else rest[1:]
    if not rest:
        raise ValueError("name a type: IN.gguf [OUT.gguf] TYPE [THREADS]")
    type, *threads = rest
    if not _is_preset(type):
        raise ValueError(f"type {type!r} is unknown; --help lists them")
    if len(threads) > 1 or not all(n.isdecimal() and int(n) for n in threads):
        raise ValueError(f"{' '.join(threads)!r} is no number of threads")
    return Path(first), Path(out[0]) if out else None, type, int(threads[0]) if threads else None


def _is_preset(word: str) -> bool:
    try:
        return word.lower() == COPY or bool(find_preset(word))
    except GgufpyError:
        return False


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        pure=arguments.pure,
        imatrix=arguments.imatrix,
        include_weights=arguments.include_weights,
        exclude_weights=arguments.exclude_weights,
        output_tensor_type=arguments.output_tensor_type,
        token_embedding_type=arguments.token_embedding_type,
        tensor_type=[*arguments.tensor_type, *arguments.tensor_type_file[1]],
        leave_output_tensor=arguments.leave_output_tensor,
        allow_requantize=arguments.allow_requantize,
        keep_split=arguments.keep_split,
        prune_layers=arguments.prune_layers,
        override_kv=dict(arguments.override_kv),
        search=arguments.search,
    )


def _type(text: str) -> str:
    try:
        return GGMLType.named(text).label
    except GgufpyError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _tensor_type(text: str) -> tuple[str, str]:
    pattern, equals, name = utf8(text).rpartition("=")
    if not equals or not pattern:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=TYPE")
    return pattern, _type(name)


def _tensor_types(name: str) -> tuple[Path, list[tuple[str, str]]]:
    path = Path(name)
    try:
        return path, [_tensor_type(word) for word in path.read_text(encoding="utf-8").split()]
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot read {path}: {error}") from error


def _layers(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers such as 4,5")
    return [int(word) for word in words]


def _is_true(text: str) -> bool:
    return {"true": True, "false": False}[text]


_READERS: dict[str, tuple[Callable[[str], int | float | bool | str], ValueType]] = {
    "int": (int, ValueType.U32),
    "float": (float, ValueType.F32),
    "bool": (_is_true, ValueType.BOOL),
    "str": (str, ValueType.STRING),
}


def _entry(text: str) -> tuple[str, Typed]:
    key, _, typed = utf8(text).partition("=")
    name, colon, value = typed.partition(":")
    try:
        read, type = _READERS[name]
        if key and colon:
            return key, Typed(read(value), type)
    except (KeyError, ValueError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not KEY=TYPE:VALUE; TYPE is int, float, bool or str")
