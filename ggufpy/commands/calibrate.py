"""`ggufpy calibrate`: what is hard to quantize of a model, as a table, JSON and plots."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ggufpy.commands.console import one_line, run_command
from ggufpy.commands.parser import Parser, shares
from ggufpy.errors import GgufpyError

if TYPE_CHECKING:
    from ggufpy.calibrate.observing import Observed
    from ggufpy.gguf.reader import GGUFFile

_EPILOG = """Of weights and, with -f, of activations (what linears read): least, most, mean, deviation, rms,
percentiles; crest, the largest magnitude over the rms; columns whose rms is more than 4 times the median of
all. JSON also has histograms: counts in equal parts from min to max. FILE.jsonl has a chat in each line,
written by the model's template. A checkpoint is converted to a temporary file first."""


def main(argv: list[str] | None = None) -> int:
    """Print statistics of one model and return the exit status."""
    parser = Parser(
        prog="ggufpy calibrate",
        description="Show what is hard to quantize of a model: statistics of its weights and activations.",
        epilog=_EPILOG,
    )
    option = parser.add_argument
    model = "a GGUF file of any type, or a checkpoint's folder"
    option("-m", "--model", type=Path, required=True, metavar="FILE", help=model)
    texts = "what the model reads: a text, or chats; several times"
    option("-f", "--file", type=Path, action="append", default=[], metavar="TEXT", help=texts)
    option("--mix", type=shares, metavar="W,W", help="shares of the texts; default: all there is of each")
    option("-c", "--ctx-size", type=int, default=512, metavar="N", help="tokens of a context; default: 512")
    chunks = "contexts at most, spread over the texts; default: 16"
    option("--chunks", type=int, default=16, metavar="N", help=chunks)
    option("--top", type=int, default=20, metavar="N", help="tensors shown, the worst first; default: 20")
    option("-o", "--output", choices=("text", "json"), default="text", help="default: text")
    plots = "write PNG plots there, with matplotlib (pip install 'ggufpy[plots]')"
    option("--plots", type=Path, metavar="FOLDER", help=plots)
    option("-t", "--threads", type=int, metavar="N", help="0 and default: one per physical core")
    arguments = parser.parse_args(argv)
    for name, value, least in (
        ("-c", arguments.ctx_size, 1),
        ("--chunks", arguments.chunks, 1),
        ("--top", arguments.top, 1),
        ("-t", arguments.threads or 0, 0),
    ):
        if not least <= value < 2**31:
            parser.error(f"{name} {value}: from {least} to {2**31 - 1}")
    if arguments.mix and len(arguments.mix) != len(arguments.file):
        parser.error(f"--mix has {len(arguments.mix)} weights for {len(arguments.file)} texts")
    return run_command(lambda: _calibrate(arguments))


def _calibrate(arguments: argparse.Namespace) -> int:
    # NumPy and the engine: only for a good command line.
    from ggufpy.commands.calibrate_output import as_json, lines

    for path in arguments.file:  # before a checkpoint is converted
        path.open("rb").close()
    if arguments.plots is not None:
        _check_plots(arguments.plots)
    with _file(arguments.model) as file:
        chunks = _chunks(file, arguments)
        weights, activations = _observed(file, chunks, arguments.threads)
    if arguments.plots is not None:
        from ggufpy.commands.calibrate_plots import plots

        for path in plots(arguments.plots, weights, activations):
            print(one_line(str(path)), file=sys.stderr)
    if arguments.output == "json":
        print(as_json(arguments.model, chunks, weights, activations))
        return 0
    for line in lines(weights, activations, arguments.top):
        print(line)
    return 0


def _check_plots(folder: Path) -> None:
    """Before hours are spent: whether there can be plots."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise GgufpyError(f"--plots: {error}; run pip install 'ggufpy[plots]'") from None
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _file(path: Path) -> Iterator[GGUFFile]:
    """The model, converted where it is a checkpoint."""
    from ggufpy.gguf.reader import GGUFFile

    if not path.is_dir():
        with GGUFFile.open(path) as file:
            yield file
        return
    from ggufpy.convert.pipeline import convert_checkpoint

    with TemporaryDirectory(prefix="ggufpy-") as folder:
        print(one_line(f"converting {path} to a file in {folder}, for a while"), file=sys.stderr)
        (first, *_) = convert_checkpoint(path, Path(folder, "model.gguf"))
        with GGUFFile.open(first) as file:
            yield file


def _chunks(file: GGUFFile, arguments: argparse.Namespace) -> list[list[int]]:
    if not arguments.file:
        return []
    from ggufpy.calibrate.chunks import spread
    from ggufpy.commands.calibration_texts import chunks_of_texts

    return spread(chunks_of_texts(file, arguments.file, arguments.ctx_size, arguments.mix), arguments.chunks)


def _observed(
    file: GGUFFile, chunks: list[list[int]], threads: int | None
) -> tuple[list[Observed], list[Observed]]:
    """Weights, and activations where there are texts, with progress on stderr."""
    from ggufpy.calibrate.observing import activations_of, weights_of
    from ggufpy.commands.calibration_texts import counting
    from ggufpy.runtime.cpu import default_threads

    with counting("weights", None, "tensors/s", 1) as show:
        weights = weights_of(file, show)
    if not chunks:
        return weights, []
    with counting("layers", None, "layers/s", 1) as show:
        return weights, activations_of(file, chunks, threads or default_threads(), show)
