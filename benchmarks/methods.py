"""Rounding by a text, measured: divergence of a model's files for each type and method, beside the matrix.

    python benchmarks/methods.py -m MODEL-F16 -f CALIBRATION -j JUDGES [-j MORE] --types q4_0 q4_k \
        --methods gptq best [--contexts 24] [-- --pure --token-embedding-type q6_k]

What stands behind -- goes to ggufpy quantize. Each row is a file: its bytes, and, for each text that judges,
the mean of KL(model || file) over all tokens of contexts of 256, spread evenly over it, the same relative to
the importance matrix of the calibration, the mean of at most 3 nats a token, and the worst token.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ggufpy.calibrate.chunks import spread
from ggufpy.calibrate.judging import Judge, Verdict
from ggufpy.commands.console import run_command
from ggufpy.evaluate.perplexity import read_text
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.cpu import default_threads
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.chunks import chunks_of

CONTEXT = 256
QUANTIZE = (sys.executable, "-m", "ggufpy.quantize")


def judges_of(model: GGUFFile, texts: Sequence[Path], contexts: int) -> list[Judge]:
    """One for each text."""
    tokenizer, judges = load_tokenizer(model.metadata), []
    for text in texts:
        chunks = chunks_of(tokenizer, tokenizer.encode(read_text(text)), CONTEXT)
        judges.append(Judge(model, spread(chunks, contexts), default_threads()))
    return judges


def row(name: str, path: Path, judges: Sequence[Judge], plain: Sequence[Verdict], seconds: float) -> str:
    """A line of the table."""
    with GGUFFile.open(path) as file:
        found = [judge(file.tensors) for judge in judges]
    cells = [name, f"{path.stat().st_size:,}"]
    for verdict, other in zip(found, plain or found, strict=True):
        cells += [f"{verdict.mean:.5f}", f"{verdict.mean / other.mean:.3f}"]
        cells += [f"{verdict.capped:.5f}", f"{verdict.worst:.2f}"]
    return "| " + " | ".join([*cells, f"{seconds:.0f} s"]) + " |"


def quantized(model: Path, out: Path, type: str, options: Sequence[str]) -> float:
    """Write a file; the seconds that took."""
    start = time.perf_counter()
    subprocess.run([*QUANTIZE, *options, str(model), str(out), type], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def table(args: argparse.Namespace) -> int:
    """Markdown on stdout."""
    head = ["file", "bytes"]
    for text in args.judges:
        head += [f"KL {text.name}", "ratio", "capped", "worst"]
    print("| " + " | ".join([*head, "time"]) + " |\n" + "|---" * (len(head) + 1) + "|", flush=True)
    with TemporaryDirectory() as name, GGUFFile.open(args.model) as model:
        judges, folder = judges_of(model, args.judges, args.contexts), Path(name)
        matrix = folder / "imatrix.gguf"
        imatrix = (sys.executable, "-m", "ggufpy.imatrix", "-m", str(args.model), "-f", str(args.file))
        subprocess.run([*imatrix, "-o", str(matrix)], check=True, stdout=subprocess.DEVNULL)
        for type in args.types:
            out = folder / "file.gguf"
            seconds = quantized(args.model, out, type, [*args.options, "--imatrix", str(matrix)])
            with GGUFFile.open(out) as file:
                plain = [judge(file.tensors) for judge in judges]
            print(row(f"{type} importance matrix", out, judges, plain, seconds), flush=True)
            for method in args.methods:
                how = ["--calibration", str(args.file), "--method", method]
                seconds = quantized(args.model, out, type, [*args.options, *how])
                print(row(f"{type} {method}", out, judges, plain, seconds), flush=True)
    return 0


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("-f", "--file", type=Path, required=True)
    parser.add_argument("-j", "--judges", type=Path, action="append", required=True)
    parser.add_argument("--types", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=["best"])
    parser.add_argument("--contexts", type=int, default=24)
    parser.add_argument("options", nargs="*", help="behind --: options of ggufpy quantize")
    args = parser.parse_args()
    return run_command(lambda: table(args))


if __name__ == "__main__":
    sys.exit(main())
