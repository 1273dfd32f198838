"""A GGUF file of a known model's shape with random weights, for measuring speed without a download.

    python benchmarks/random_model.py --shape 1B --type q8_0 OUT.gguf

Blocks are random bytes whose scales are then set, so that weights have a deviation of about 0.02 and
logits stay finite. The same seed gives the same file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from ggufpy.commands.console import run_command
from ggufpy.convert.vocab import read_vocabulary
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import write_gguf

ROOT = Path(__file__).resolve().parent.parent
# Its vocabulary, padded with tokens that no text becomes.
CHECKPOINT = ROOT / "models" / "pocket-wiki-7m-chat"


@dataclass(frozen=True)
class Shape:
    """What a Llama's tensors are sized by."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool
    rope_base: float
    context: int


SHAPES = {
    "1B": Shape(16, 2048, 32, 8, 64, 8192, 128256, True, 500000.0, 131072),  # Llama-3.2-1B
    "3B": Shape(28, 3072, 24, 8, 128, 8192, 128256, True, 500000.0, 131072),  # Llama-3.2-3B
    "7B": Shape(32, 4096, 32, 32, 128, 11008, 32000, False, 10000.0, 4096),  # Llama-2-7B
}


@dataclass(frozen=True)
class Blocks:
    """How random bytes become blocks.

    file_type: general.file_type of a file of this type. scales: offset of each f16 scale in the block, and
    its size for weights with a deviation of 1; that of a minimum brings their mean to zero.
    """

    file_type: int
    scales: tuple[tuple[int, float], ...]


# Sizes from the variance of uniform quants and scales, e.g. q4_0: quants -8..7 deviate by 4.61.
BLOCKS = {
    GGMLType.Q4_0: Blocks(2, ((0, 1 / 4.61),)),
    GGMLType.Q4_1: Blocks(3, ((0, 1 / 4.61), (2, -7.5 / 4.61))),
    GGMLType.Q8_0: Blocks(7, ((0, 1 / 73.9),)),
    GGMLType.Q5_0: Blocks(8, ((0, 1 / 9.23),)),
    GGMLType.Q5_1: Blocks(9, ((0, 1 / 9.23), (2, -15.5 / 9.23))),
    GGMLType.Q2_K: Blocks(10, ((80, 1 / 13.9), (82, 1.5 / 13.9))),
    GGMLType.Q3_K: Blocks(11, ((108, 1 / 43.3),)),
    GGMLType.Q4_K: Blocks(14, ((0, 1 / 258), (2, 7.5 / 258))),
    GGMLType.Q5_K: Blocks(16, ((0, 1 / 527), (2, 15.5 / 527))),
    GGMLType.Q6_K: Blocks(18, ((208, 1 / 1366),)),
}
# Word, file type, bits that stay random (sign and mantissa), and the exponent that makes 2**-6 of it.
FLOATS: dict[GGMLType, tuple[str, int, int, int]] = {
    GGMLType.F32: ("<u4", 0, 0x807FFFFF, 121 << 23),
    GGMLType.F16: ("<u2", 1, 0x83FF, 9 << 10),
    GGMLType.BF16: ("<u2", 32, 0x807F, 121 << 7),
}
DEVIATION = 0.02
TYPES = {kind.name.lower(): kind for kind in (*FLOATS, *BLOCKS)}


def random_model(path: Path, shape: Shape, kind: GGMLType, seed: int = 0) -> None:
    """Write the file; matrices are of type `kind`, norms f32."""
    tensors = random_tensors(shape, kind, seed)
    metadata = _metadata(shape, kind)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(path.name, total=sum(tensor.n_bytes for tensor in tensors))
        write_gguf(path, metadata, tensors, on_progress=lambda _, n_bytes: progress.advance(task, n_bytes))


def random_tensors(shape: Shape, kind: GGMLType, seed: int) -> list[TensorSource]:
    """All tensors of a Llama, under their names in a file."""
    heads, kv_heads = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sizes: dict[str, tuple[int, ...]] = {"token_embd": (shape.vocab, shape.width)}
    for layer in range(shape.layers):
        sizes |= {
            f"blk.{layer}.attn_norm": (shape.width,),
            f"blk.{layer}.attn_q": (heads, shape.width),
            f"blk.{layer}.attn_k": (kv_heads, shape.width),
            f"blk.{layer}.attn_v": (kv_heads, shape.width),
            f"blk.{layer}.attn_output": (shape.width, heads),
            f"blk.{layer}.ffn_norm": (shape.width,),
            f"blk.{layer}.ffn_gate": (shape.ffn, shape.width),
            f"blk.{layer}.ffn_up": (shape.ffn, shape.width),
            f"blk.{layer}.ffn_down": (shape.width, shape.ffn),
        }
    sizes["output_norm"] = (shape.width,)
    if not shape.tied:
        sizes["output"] = (shape.vocab, shape.width)
    return [_tensor(f"{name}.weight", size, kind, (seed, i)) for i, (name, size) in enumerate(sizes.items())]


def _tensor(name: str, size: tuple[int, ...], kind: GGMLType, seed: tuple[int, int]) -> TensorSource:
    fill = _set_floats(kind) if kind in FLOATS else _set_scales(kind)
    if len(size) == 1:
        kind, fill = GGMLType.F32, _set_norm
    return TensorSource(name, size, kind, _reader(kind.row_bytes(size[-1]), seed, fill))


Fill = Callable[[NDArray[np.uint8]], None]


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


def _set_norm(rows: NDArray[np.uint8]) -> None:
    """Norm weights between 0.5 and 1."""
    bits = rows.view("<u4")
    bits &= 0x007FFFFF
    bits |= 126 << 23


def _set_floats(kind: GGMLType) -> Fill:
    """Weights of either sign between 2**-6 and 2**-5."""
    word, _, keep, exponent = FLOATS[kind]

    def fill(rows: NDArray[np.uint8]) -> None:
        bits = rows.view(word)
        bits &= keep
        bits |= exponent

    return fill


def _set_scales(kind: GGMLType) -> Fill:
    """Scales of the size in BLOCKS, but for their five lowest bits, which stay random."""

    def fill(rows: NDArray[np.uint8]) -> None:
        blocks = rows.reshape(-1, kind.block_bytes)
        for offset, size in BLOCKS[kind].scales:
            high, low = divmod(int(np.float16(size * DEVIATION).view(np.uint16)), 256)
            blocks[:, offset + 1] = high
            blocks[:, offset] = low & ~31 | blocks[:, offset] & 31

    return fill


def _metadata(shape: Shape, kind: GGMLType) -> dict[str, Value | Typed]:
    return {
        "general.architecture": "llama",
        "general.name": "random weights",
        "general.file_type": FLOATS[kind][1] if kind in FLOATS else BLOCKS[kind].file_type,
        "general.quantization_version": 2,
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.ffn,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.key_length": shape.head_dim,
        "llama.attention.value_length": shape.head_dim,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.rope.freq_base": shape.rope_base,
        "llama.vocab_size": shape.vocab,
        **read_vocabulary(CHECKPOINT, {"vocab_size": shape.vocab}),
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
