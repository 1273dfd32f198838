"""`ggufpy perplexity`: how well a model predicts a text."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ggufpy.commands.console import run_command
from ggufpy.commands.parser import Parser
from ggufpy.commands.run_options import cache_options
from ggufpy.evaluate.perplexity import SMALLEST_CONTEXT, Perplexity, perplexity, read_text, text_chunks
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.check import check_vocabulary


def main(argv: list[str] | None = None) -> int:
    """Print the perplexity of a text and return the exit status."""
    parser = Parser(
        prog="ggufpy perplexity", description="Measure the perplexity of a text, as llama-perplexity does."
    )
    option = parser.add_argument
    option("-m", "--model", type=Path, required=True, metavar="FILE", help="a GGUF file")
    option("-f", "--file", type=Path, required=True, metavar="TEXT", help="the text, in UTF-8")
    context = "tokens of context, half of which is counted; default: 512"
    option("-c", "--ctx-size", type=int, default=512, metavar="N", help=context)
    option("-t", "--threads", type=int, metavar="N", help="0 and default: one per physical core")
    option("--chunks", type=int, metavar="N", help="stop after so many contexts")
    option("--precision", choices=("exact", "fast", "int8"), default="fast", help="default: fast")
    cache_options(option)
    option("-o", "--output", choices=("text", "json"), default="text", help="default: text")
    arguments = parser.parse_args(argv)
    for name, value, least in (
        ("-c", arguments.ctx_size, SMALLEST_CONTEXT),
        ("-t", arguments.threads, 0),
        ("--chunks", arguments.chunks, 1),
    ):
        if value is not None and value < least:
            parser.error(f"{name} {value}: at least {least}")
    return run_command(lambda: _perplexity(arguments))


def _perplexity(arguments: argparse.Namespace) -> int:
    text = read_text(arguments.file)
    with GGUFFile.open(arguments.model) as file:
        tokenizer = load_tokenizer(file.metadata)
        chunks = text_chunks(tokenizer, text, arguments.ctx_size)[: arguments.chunks]
        engine = Engine.load(
            file,
            n_ctx=arguments.ctx_size,
            n_threads=arguments.threads,
            precision=arguments.precision,
            type_k=arguments.cache_type_k,
            type_v=arguments.cache_type_v,
        )
        check_vocabulary(file, tokenizer, engine)
        with _progress() as progress:
            task = progress.add_task("chunks", total=len(chunks), rate="", ppl="")

            def show(done: int, so_far: float) -> None:
                seconds = progress.tasks[0].elapsed
                rate = f"{done * arguments.ctx_size / seconds:.0f} tok/s" if seconds else ""
                progress.update(task, completed=done, rate=rate, ppl=f"PPL {so_far:.4f}")

            result = perplexity(engine, chunks, on_chunk=show)
    print(_json(result) if arguments.output == "json" else _line(result, arguments.ctx_size))
    return 0


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[ppl]}"),
    )
    return Progress(*columns, console=Console(stderr=True))


def _line(result: Perplexity, n_ctx: int) -> str:
    counted = f"{result.n_tokens} tokens in {result.n_chunks} chunks of {n_ctx}"
    return f"PPL = {result.value:.4f} +/- {result.error:.5f} ({counted}, {result.seconds:.1f} s)"


def _json(result: Perplexity) -> str:
    return json.dumps(
        {
            "perplexity": _number(result.value),
            "stderr": _number(result.error),
            "n_tokens": result.n_tokens,
            "n_chunks": result.n_chunks,
            "seconds": round(result.seconds, 3),
        }
    )


def _number(value: float) -> float | None:
    """JSON has no infinity and no nan."""
    return value if math.isfinite(value) else None
