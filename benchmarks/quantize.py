"""Speed of the encoders, weights per second, beside llama.cpp's own.

    python benchmarks/quantize.py [--type q4_K q6_K] [--rounds 5] [--weights] [--search thorough]

All take turns, round by round, so that a slow moment of the machine hits all of them. Medians are printed,
and of the ratio to llama.cpp, both on one thread, the median over rounds with the smallest and the largest.
llama.cpp is ggml_quantize_chunk in the xllamacpp wheel. Compiling, or reading what an earlier run compiled,
is a column of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ggufpy.commands.console import run_command
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import ENCODERS, NEEDS_WEIGHTS, encode

Floats = NDArray[np.float32]
Quantize = Callable[[Floats], object]

ROWS, COLUMNS = 512, 4096


def seconds(run: Callable[[], object]) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def on_threads(quantize: Quantize, x: Floats, threads: int) -> float:
    """Seconds for all rows of `x`, in as many parts as there are threads."""
    parts = np.array_split(x, threads)
    with ThreadPoolExecutor(threads) as pool:
        return seconds(lambda: list(pool.map(quantize, parts)))


def llama_cpp(type: GGMLType, weights: Floats | None) -> Quantize | None:
    """llama.cpp's encoder, or None without the wheel."""
    try:
        import xllamacpp
    except ImportError:
        return None
    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp.*.so"))))
    chunk = library.ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    chunk.argtypes = [ctypes.c_int, pointer, pointer, integer, integer, integer, pointer]
    matrix = None if weights is None else weights.ctypes.data

    def quantize(x: Floats) -> None:
        out = np.empty((x.shape[0], type.row_bytes(x.shape[1])), np.uint8)
        chunk(type, x.ctypes.data, out.ctypes.data, 0, *x.shape, matrix)

    return quantize


def measure(type: GGMLType, weighted: bool, args: argparse.Namespace) -> list[str]:
    """A row of the table."""
    rng = np.random.default_rng(0)
    x = (0.02 * rng.standard_normal((ROWS, COLUMNS))).astype(np.float32)
    weights = (rng.standard_normal(COLUMNS) ** 2).astype(np.float32) if weighted else None
    theirs = llama_cpp(type, weights)

    def ours(part: Floats) -> object:
        return encode(part, type, weights, search=args.search)

    compiling = seconds(lambda: ours(x[:1]))
    few = x[: ROWS // 8]  # llama.cpp is slow enough for a fraction to do
    times: list[tuple[float, float, float]] = []
    for _ in range(args.rounds):
        other = seconds(lambda: theirs(few)) * x.size / few.size if theirs else float("nan")
        times.append((on_threads(ours, x, 1), on_threads(ours, x, 2), other))
    rates = [f"{x.size / median(column) / 1e6:.4g}" for column in zip(*times, strict=True)]
    ratios = [other / one for one, _, other in times]
    spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [type.label, "yes" if weighted else "no", f"{compiling:.1f}", *rates, spread]


def print_table(types: list[GGMLType], args: argparse.Namespace) -> int:
    """Markdown: a line per type, and one with weights where wanted."""
    columns = ("type", "weights", "compile s", "1 thread", "2 threads", "llama.cpp", "ratio, 1 thread")
    print("Million weights per second.\n")
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for type in types:
        for weighted in (False, True) if args.weights else (type in NEEDS_WEIGHTS,):
            if weighted or type not in NEEDS_WEIGHTS:
                print("|", " | ".join(measure(type, weighted, args)), "|", flush=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print a table."""
    labels = {type.label: type for type in ENCODERS if type.block_size > 1}
    parser = argparse.ArgumentParser(description="Speed of the encoders beside llama.cpp's.")
    parser.add_argument("--type", nargs="+", choices=labels, default=list(labels), metavar="TYPE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", action="store_true", help="also with an importance of each column")
    parser.add_argument("--search", choices=("reference", "thorough"), default="reference")
    args = parser.parse_args(argv)
    return run_command(lambda: print_table([labels[label] for label in args.type], args))


if __name__ == "__main__":
    sys.exit(main())
