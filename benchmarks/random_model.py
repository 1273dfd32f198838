"""A GGUF file of a known model's shape with random weights, for measuring speed without a download.

    python benchmarks/random_model.py --shape 1B --type q8_0 OUT.gguf

The same seed gives the same file. The vocabulary is as large as the shape's, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from random_blocks import FILE_TYPES, Fill, fill_of, set_decay, set_norm
from random_vocabulary import random_vocabulary
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from shapes import SHAPES, Shape

from ggufpy.commands.console import run_command
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import write_gguf

TYPES = {kind.name.lower(): kind for kind in FILE_TYPES}


def random_model(path: Path, shape: Shape, kind: GGMLType, seed: int = 0) -> None:
    """Write the file; matrices are of type `kind`, what is no matrix is f32."""
    tensors = random_tensors(shape, kind, seed)
    metadata = _metadata(shape, kind)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(path.name, total=sum(tensor.n_bytes for tensor in tensors))
        write_gguf(path, metadata, tensors, on_progress=lambda _, n_bytes: progress.advance(task, n_bytes))


def random_tensors(shape: Shape, kind: GGMLType, seed: int) -> list[TensorSource]:
    """All tensors of a model, under their names in a file."""
    sizes = shape.tensors()
    return [_tensor(name, size, kind, (seed, i)) for i, (name, size) in enumerate(sizes.items())]


def _tensor(name: str, size: tuple[int, ...], kind: GGMLType, seed: tuple[int, int]) -> TensorSource:
    fill = fill_of(kind)
    if "norm" in name or len(size) == 1 or size[-1] % 32:
        kind, fill = GGMLType.F32, set_decay if name.endswith("ssm_a") else set_norm
    return TensorSource(name, size, kind, _reader(kind.row_bytes(size[-1]), seed, fill))


def _reader(row_bytes: int, seed: tuple[int, int], fill: Fill) -> Callable[[int, int], NDArray[np.uint8]]:
    """Rows of random bytes, the same however they are asked for, with `fill` applied in place."""
    words = -(-row_bytes // 8)

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        generator = np.random.PCG64(seed).advance(start * words)
        raw = generator.random_raw((stop - start) * words).astype("<u8", copy=False)
        rows = np.ascontiguousarray(raw.view(np.uint8).reshape(stop - start, words * 8)[:, :row_bytes])
        fill(rows)
        return rows

    return read


def _metadata(shape: Shape, kind: GGMLType) -> dict[str, Value | Typed]:
    return {
        "general.architecture": shape.architecture,
        "general.name": "random weights",
        "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": 2,
        **shape.metadata(),
        **random_vocabulary(shape.vocab),
    }


def count(text: str) -> int:
    """An argument that is a number of things, at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1")
    return number


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description="Write a GGUF file of a known shape with random weights.")
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    parser.add_argument("--type", choices=TYPES, default="q8_0")
    parser.add_argument("--layers", type=count, help="fewer (or more) layers than the shape has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("out", type=Path, metavar="OUT.gguf")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed {args.seed}: at least 0")
    shape = SHAPES[args.shape]
    if args.layers is not None:
        shape = replace(shape, layers=args.layers)

    def write() -> int:
        random_model(args.out, shape, TYPES[args.type], args.seed)
        return 0

    return run_command(write)


if __name__ == "__main__":
    sys.exit(main())
