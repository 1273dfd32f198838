"""`ggufpy imatrix`: how much each column of a model's matrices matters, for quantizing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ggufpy.commands.console import one_line, run_command
from ggufpy.commands.llama_flags import add_flags_without_effect, remedies
from ggufpy.commands.parser import Parser, shares
from ggufpy.errors import GgufpyError

if TYPE_CHECKING:
    from ggufpy.gguf.inputs import Inputs
    from ggufpy.gguf.reader import GGUFFile
    from ggufpy.quants.choice.imatrix_file import ImatrixFile

_EPILOG = """A text is read in contexts of -c tokens; what is left over is dropped. FILE.jsonl has a chat in
each line, {"messages": [...]} or the list, written by the model's template. With --mix 3,1 three of four
contexts are of the first -f. --in-file adds what other files hold of the same model; without -m that is all.
Options and files are llama-imatrix's; the file is written once, when all is read."""

_WITH_VALUE = ("--output-frequency", "-ofreq", "--save-frequency")


def main(argv: list[str] | None = None) -> int:
    """Write a matrix, or print what one says, and return the exit status."""
    parser = Parser(
        prog="ggufpy imatrix",
        description="Measure how much each column of a model's matrices matters.",
        epilog=_EPILOG,
        remedies=remedies(),
    )
    _add_options(parser)
    arguments = parser.parse_args(argv)
    for name, value, least in (
        ("-c", arguments.ctx_size, 1),
        ("-t", arguments.threads, -1),
        ("--chunk", arguments.chunk, 0),
        ("--chunks", arguments.chunks, -1),
    ):
        if value is not None and value < least:
            parser.error(f"{name} {value}: at least {least}")
        if value is not None and value >= 2**31:
            parser.error(f"{name} {value}: at most {2**31 - 1}")
    if bool(arguments.model) != bool(arguments.file):
        parser.error("-m and -f belong together: a model, and what it shall read")
    if not arguments.model and not arguments.in_file:
        parser.error("nothing to do: give -m and -f, or files with --in-file")
    if arguments.mix and len(arguments.mix) != len(arguments.file or []):
        parser.error(f"--mix has {len(arguments.mix)} weights for {len(arguments.file or [])} texts")
    return run_command(lambda: _imatrix(arguments))


def _add_options(parser: Parser) -> None:
    option = parser.add_argument
    option("-m", "--model", type=Path, metavar="FILE", help="a GGUF file, of any type")
    option("-f", "--file", type=Path, action="append", metavar="TEXT", help="a text, or chats; several times")
    option("--mix", type=shares, metavar="W,W", help="shares of the texts; default: all there is of each")
    option("--in-file", type=Path, action="append", default=[], metavar="FILE", help="add what it holds")
    option("-o", "--output-file", type=Path, metavar="FILE", help="default: imatrix.gguf")
    format = "gguf, or dat: the format before; default: by the ending of -o"
    option("--output-format", choices=("gguf", "dat"), help=format)
    option("--show-statistics", action="store_true", help="print a table of the tensors, and write nothing")
    option("-c", "--ctx-size", type=int, default=512, metavar="N", help="tokens of a context; default: 512")
    option("--chunk", type=int, default=0, metavar="N", help="leave out so many contexts at the start")
    option("--chunks", type=int, metavar="N", help="read so many contexts at most")
    option("--process-output", action="store_true", help="measure the output's matrix, too")
    option("--parse-special", action="store_true", help="texts of control tokens become these tokens")
    option("-t", "--threads", type=int, metavar="N", help="0 and default: one per physical core")
    option("--precision", choices=("exact", "fast", "int8"), default="fast", help="default: fast")
    option("--no-ppl", action="store_true", help=argparse.SUPPRESS)
    for name in _WITH_VALUE:
        option(name, help=argparse.SUPPRESS)
    add_flags_without_effect(parser)


def _imatrix(arguments: argparse.Namespace) -> int:
    # NumPy and the engine: only for a good command line.
    from ggufpy.gguf.inputs import Inputs
    from ggufpy.gguf.outputs import check_targets
    from ggufpy.quants.choice.imatrix_file import ImatrixFile

    inputs = Inputs()
    for path in (
        *arguments.in_file,
        *(arguments.file or []),
        *([arguments.model] if arguments.model else []),
    ):
        inputs.note(path)
    if not arguments.show_statistics:  # before hours are spent: whether the file can be written
        inputs.check_outputs([_target(arguments)])
        check_targets({_target(arguments): 0})
    files = [(path, ImatrixFile.read(path).in_rows(arguments.ctx_size)) for path in arguments.in_file]
    found = None
    for path, file in files:
        found = file if found is None else _merged(found, file, path)
    if arguments.model:
        found = _measured(arguments, files, found)
    assert found is not None
    if arguments.show_statistics:
        from ggufpy.commands.imatrix_table import table

        print(table(found.entries))
        return 0
    _say_what_is_missing(found)
    print(_written(found, arguments, inputs))
    return 0


def _merged(first: ImatrixFile, second: ImatrixFile, path: Path) -> ImatrixFile:
    try:
        return first.merged(second)
    except ValueError as error:
        raise GgufpyError(f"{path}: {error}, so the files are of different models") from None


def _measured(
    arguments: argparse.Namespace, files: Sequence[tuple[Path, ImatrixFile]], known: ImatrixFile | None
) -> ImatrixFile:
    """What the model reads, added to what is known of it from files."""
    from ggufpy.commands.calibration_texts import squares_of
    from ggufpy.gguf.reader import GGUFFile
    from ggufpy.quants.choice.imatrix import ImportanceMatrix
    from ggufpy.quants.choice.imatrix_file import ImatrixFile

    with GGUFFile.open(arguments.model) as file:
        for path, each in files:
            matrix = ImportanceMatrix.of(str(path), each)
            for tensor in file.tensors.values():
                matrix.weights(tensor.name, tensor.shape)  # before hours are spent: whether it fits
        chunks = _chunks(file, arguments)
        squares = squares_of(file, chunks, n_threads=arguments.threads, precision=arguments.precision)
        entries = squares.entries(output=arguments.process_output)
    measured = ImatrixFile(entries, [str(path) for path in arguments.file], len(chunks), arguments.ctx_size)
    return measured if known is None else known.merged(measured)


def _chunks(file: GGUFFile, arguments: argparse.Namespace) -> list[list[int]]:
    from ggufpy.commands.calibration_texts import chunks_of_texts

    chunks = chunks_of_texts(
        file, arguments.file, arguments.ctx_size, arguments.mix, parse_special=arguments.parse_special
    )
    most = arguments.chunks if arguments.chunks is not None and arguments.chunks >= 0 else None
    chosen = chunks[arguments.chunk :][:most]
    if not chosen:
        raise GgufpyError(f"of {len(chunks)} contexts none is left; see --chunk and --chunks")
    return chosen


def _say_what_is_missing(found: ImatrixFile) -> None:
    """Experts that no token has reached are quantized as if all their columns mattered alike."""
    from ggufpy.calibrate.squares import unreached

    missing = unreached(found.entries)
    for name, (count, experts) in list(missing.items())[:3]:
        line = f"{name}: no token has reached {count} of {experts} experts; give more text"
        print(one_line(line), file=sys.stderr)
    if len(missing) > 3:
        print(f"... and of {len(missing) - 3} tensors more some experts", file=sys.stderr)


def _target(arguments: argparse.Namespace) -> Path:
    return arguments.output_file or Path("imatrix.gguf")


def _written(found: ImatrixFile, arguments: argparse.Namespace, inputs: Inputs) -> Path:
    path = _target(arguments)
    format = arguments.output_format or ("dat" if path.suffix == ".dat" else "gguf")
    write = found.write_legacy if format == "dat" else found.write_gguf
    write(path, inputs)
    return path
