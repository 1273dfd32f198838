"""How a range is chosen, measured: divergence of a model's files for each method and granularity, and plots.

    python benchmarks/range_methods.py -f TEXT [-m MODEL-F16] [--types q4_0 q4_1 q8_0] [--contexts 24]
    python benchmarks/range_methods.py --plots docs/images [-m MODEL-F16]

Files are --pure: all matrices are of the type. Printed is the mean of KL(model || file) over all tokens of
contexts of 256, spread evenly over the text. Without -m: the shipped model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ggufpy.calibrate.chunks import spread
from ggufpy.commands.console import run_command
from ggufpy.commands.ranging import in_range
from ggufpy.commands.shipped import shipped_model
from ggufpy.errors import FormatError
from ggufpy.evaluate.divergence import divergence
from ggufpy.evaluate.perplexity import read_text
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode
from ggufpy.quants.file import plan_quantization
from ggufpy.quants.grids import GRIDS
from ggufpy.quants.ranges import Range, encode_with
from ggufpy.runtime.engine import Engine, Span
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.chunks import chunks_of

Floats = NDArray[np.float32]

CONTEXT = 256
METHODS = ("absmax", "zero-point", "percentile=99", "percentile=99.9", "mse")
REACHES = (None, "group=128", "channel", "tensor")
PLOTTED = "blk.4.ffn_down.weight"


def logits(path: Path, chunks: Sequence[list[int]]) -> Iterator[Floats]:
    """Of each chunk, (tokens, vocabulary), in f32."""
    with GGUFFile.open(path) as file:
        engine = Engine.load(file, n_ctx=CONTEXT, precision="exact")
        for chunk in chunks:
            sequence = engine.new_sequence()
            yield engine.step([Span(sequence, chunk, logits="all")]).rows(0)
            sequence.close()


class Judge:
    """Knows what a model says of a text, and how far a file is from it."""

    def __init__(self, model: Path, text: Path, contexts: int) -> None:
        with GGUFFile.open(model) as file:
            tokenizer = load_tokenizer(file.metadata)
        chunks = chunks_of(tokenizer, tokenizer.encode(read_text(text)), CONTEXT)
        self._model, self._chunks = model, spread(chunks, contexts)
        self._said = [rows.copy() for rows in logits(model, self._chunks)]

    def of(self, type: str, how: Range | None, folder: Path) -> float:
        """The mean divergence of the model in a type, in nats."""
        plan = plan_quantization(self._model, folder / "file.gguf", type, pure=True)
        if how is not None:
            plan = replace(plan, **in_range(plan.metadata, plan.planned, how, None))
        (path,) = plan.write()
        pairs = zip(self._said, logits(path, self._chunks), strict=True)
        return float(np.concatenate([divergence(said, rows) for said, rows in pairs]).mean())


def ranges(type: str) -> Iterator[tuple[str, list[Range]]]:
    """The methods that a type has, each with all granularities."""
    for method in METHODS:
        rows = [Range.named(method, reach) for reach in REACHES]
        try:
            for each in rows:
                each.check("", GGMLType.named(type), 256)
        except FormatError:
            continue
        yield method, rows


def table(args: argparse.Namespace) -> None:
    """Markdown on stdout."""
    judge = Judge(args.model, args.file, args.contexts)
    print("| type | method | block | " + " | ".join(str(reach) for reach in REACHES[1:]) + " |")
    print("|---|---|" + "---|" * len(REACHES))
    with TemporaryDirectory() as folder:
        for type in args.types:
            plain = judge.of(type, None, Path(folder))
            print(f"| {type} | as llama.cpp | {plain:.5f} |" + " |" * (len(REACHES) - 1), flush=True)
            for method, rows in ranges(type):
                found = [f"{judge.of(type, each, Path(folder)):.5f}" for each in rows]
                print(f"| {type} | {method} | " + " | ".join(found) + " |", flush=True)


def plots(model: Path, folder: Path) -> None:
    """Weights of a row on the grids that methods choose for it, and histograms of the errors."""
    with GGUFFile.open(model) as file:
        tensor = file.tensors[PLOTTED].source()
        weights = decode(tensor.read(0, tensor.rows), tensor.type).reshape(-1, tensor.columns)
    folder.mkdir(parents=True, exist_ok=True)
    row, block = _hard_block(weights)
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    _on_grids(figure, weights, row, 32 * block)
    figure.savefig(folder / "grids.png", dpi=90)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    _errors(figure, weights)
    figure.savefig(folder / "errors.png", dpi=90)


def _hard_block(weights: Floats) -> tuple[int, int]:
    """Row and number of the block with the largest crest, of those without their row's largest weight."""
    blocks = weights.reshape(len(weights), -1, 32)
    most = np.abs(blocks).max(axis=2)
    crests = most / np.sqrt((blocks**2).mean(axis=2))
    crests[most == most.max(axis=1, keepdims=True)] = 0
    row, block = np.unravel_index(int(crests.argmax()), crests.shape)
    return int(row), int(block)


def rounded(weights: Floats, type: str, method: str, reach: str | None = None) -> tuple[Floats, Floats]:
    """The weights in a type, (rows, n), and the values that the levels of each row's sub-blocks stand for."""
    grid, how = GRIDS[GGMLType.named(type)], Range.named(method, reach)
    of = grid.parts(encode_with(weights, *how.scales(weights, grid), grid))
    step, low = (np.repeat(a, grid.block // grid.sub, 1) * b for a, b in ((of.d, of.s), (of.m, of.t)))
    return grid.values(of), step[..., None] * grid.levels - low[..., None]


def _on_grids(figure: Figure, weights: Floats, row: int, column: int) -> None:
    """One block, with one weight far from the others."""
    shown = (
        *(("q4_0", "absmax", None), ("q4_0", "percentile=99", None), ("q4_0", "mse", None)),
        *(("q4_1", "zero-point", None), ("iq4_nl", "mse", None), ("q4_0", "absmax", "channel")),
    )
    part = slice(column, column + 32)
    order = np.argsort(weights[row, part])
    own = weights[row, part][order]
    for axis, (type, method, reach) in zip(figure.subplots(2, 3, sharey=True).ravel(), shown, strict=True):
        values, levels = rounded(weights, type, method, reach)
        near = values[row, part][order]
        axis.hlines(levels[row, column // 32], -1, 32, color="0.8", linewidth=0.8)
        axis.vlines(range(32), np.minimum(own, near), np.maximum(own, near), color="tab:red", linewidth=1.2)
        axis.plot(range(32), own, ".", color="tab:blue", markersize=5)
        size = np.sqrt(((near - own) ** 2).mean() / (own**2).mean())
        scale = "" if reach is None else f", {reach}"
        axis.set_title(f"{type} {method}{scale}\nerror {size:.1%} of rms", fontsize=9)
        axis.set_xticks([])
        reaches = 1.15 * float(np.abs(own).max())
        axis.set_ylim(-reaches, reaches)
    figure.suptitle(
        "A block of 32 weights (dots, sorted) and the levels that it is given (lines)", fontsize=10
    )


def _errors(figure: Figure, weights: Floats) -> None:
    """Of a whole matrix."""
    size = float(np.sqrt((weights**2).mean()))
    by_method: list[tuple[str, str | None]] = [("absmax", None), ("percentile=99", None), ("mse", None)]
    by_reach: list[tuple[str, str | None]] = [("absmax", reach) for reach in REACHES]
    axes = figure.subplots(1, 2, sharey=True)
    for axis, shown in zip(axes, (by_method, by_reach), strict=True):
        for method, reach in shown:
            errors = (rounded(weights, "q4_0", method, reach)[0] - weights) / size
            counts, edges = np.histogram(errors, 201, (-0.6, 0.6), density=True)
            rms = float(np.sqrt((errors**2).mean()))
            label = f"{method if shown is by_method else reach or 'block'}: {rms:.3f}"
            axis.stairs(counts, edges, label=label, linewidth=1.1)
        axis.set_yscale("log")
        axis.set_ylim(1e-3, 300)
        axis.set_xlabel("error / rms of the weights")
        axis.set_title(
            "q4_0: " + ("methods" if shown is by_method else "granularities of absmax"), fontsize=10
        )
        axis.legend(title="rms of errors", fontsize=8, title_fontsize=8, loc="upper right", ncols=2)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("density")


def main() -> int:
    """Measure, or draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("-f", "--file", type=Path)
    parser.add_argument("--types", nargs="+", default=["q4_0", "q4_1", "q8_0"])
    parser.add_argument("--contexts", type=int, default=24)
    parser.add_argument("--plots", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    args.model = args.model or shipped_model()
    if not args.file and not args.plots:
        parser.error("give a text with -f, or a folder with --plots")

    def run() -> int:
        if args.plots:
            plots(args.model, args.plots)
        if args.file:
            table(args)
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
