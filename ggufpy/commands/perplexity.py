"""`ggufpy perplexity`: how well models predict a text, and how near they come to another's predictions."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ggufpy.commands.console import run_command
from ggufpy.commands.evaluating import OnDone, Opened, engine_options, opened, progress
from ggufpy.commands.llama_flags import add_flags_without_effect
from ggufpy.commands.parser import Parser
from ggufpy.commands.perplexity_output import KlResult, PerplexityResult, Place, Result, show
from ggufpy.commands.perplexity_tasks import run_tasks, task_options
from ggufpy.commands.run_options import cache_options
from ggufpy.errors import GgufpyError
from ggufpy.evaluate.against_base import AgainstBase, against_base
from ggufpy.evaluate.base_logits import BaseLogits, BaseWriter, base_size
from ggufpy.evaluate.perplexity import SMALLEST_CONTEXT, perplexity, read_text, scored_from, text_chunks
from ggufpy.evaluate.statistics import Statistics, statistics
from ggufpy.gguf.inputs import Inputs
from ggufpy.gguf.outputs import check_targets, whole_files
from ggufpy.tokenizers.chunks import chunks_of

_CONTEXT = 512
_BEFORE = 12  # tokens shown before the worst one

_EPILOG = """The first model writes --kl-divergence-base FILE; others are held against it with
--kl-divergence, which takes text and context from FILE. Options and files are llama-perplexity's."""


def main(argv: list[str] | None = None) -> int:
    """Print what was measured and return the exit status."""
    parser = Parser(
        prog="ggufpy perplexity",
        description="Measure how well models predict a text, as llama-perplexity does.",
        epilog=_EPILOG,
    )
    _add_options(parser)
    arguments = parser.parse_args(argv)
    for name, value, least in (
        ("-c", arguments.ctx_size, SMALLEST_CONTEXT),
        ("-t", arguments.threads, 0),
        ("--chunks", arguments.chunks, 1),
    ):
        if value is not None and value < least:
            parser.error(f"{name} {value}: at least {least}")
    if arguments.task and (arguments.kl_divergence or arguments.kl_divergence_base):
        parser.error(f"--{arguments.task} and --kl-divergence: one at a time")
    if arguments.kl_divergence and not arguments.kl_divergence_base:
        parser.error("--kl-divergence: name the file to compare with by --kl-divergence-base")
    if not arguments.kl_divergence and not arguments.file:
        parser.error("name a text, or a file of tasks, with -f")
    if arguments.kl_divergence_base and not arguments.kl_divergence and len(arguments.model) > 1:
        parser.error("--kl-divergence-base is written by one model; to compare, add --kl-divergence")
    return run_command(lambda: _perplexity(arguments))


def _add_options(parser: Parser) -> None:
    option = parser.add_argument
    models = "a GGUF file; of several, each with -m, there is a table"
    option("-m", "--model", type=Path, required=True, action="append", metavar="FILE", help=models)
    option("-f", "--file", "-bf", "--binary-file", type=Path, metavar="TEXT", help="the text, in UTF-8")
    context = "tokens of context, half of which is counted; default: 512"
    option("-c", "--ctx-size", type=int, metavar="N", help=context)
    option("--chunks", type=int, metavar="N", help="stop after so many contexts")
    base = "write what the model predicts, or with --kl-divergence read it"
    option("--kl-divergence-base", "--save-all-logits", type=Path, metavar="FILE", help=base)
    option("--kl-divergence", action="store_true", help="compare models with --kl-divergence-base")
    task_options(parser)
    engine_options(parser)
    cache_options(option)
    option("-o", "--output", choices=("text", "json"), default="text", help="default: text")
    add_flags_without_effect(parser)


def _perplexity(arguments: argparse.Namespace) -> int:
    if arguments.task:
        run_tasks(arguments, arguments.ctx_size or _CONTEXT)
        return 0
    measure = _against_base if arguments.kl_divergence else _of_text
    show(list(measure(arguments)), arguments.output)
    return 0


def _of_text(arguments: argparse.Namespace) -> Iterator[Result]:
    """Measure each model's perplexity, and write the base's file if one is wanted."""
    n_ctx = arguments.ctx_size or _CONTEXT
    text = read_text(arguments.file)
    for path in arguments.model:
        with opened(path, arguments, n_ctx) as model, ExitStack() as stack:
            chunks = text_chunks(model.tokenizer, text, n_ctx)[: arguments.chunks]
            keep = stack.enter_context(_base_writer(arguments, model, chunks))
            tell = stack.enter_context(progress(path, "chunks", len(chunks), n_ctx))

            def on_chunk(done: int, so_far: float, tell: OnDone = tell) -> None:
                tell(done, f"PPL {so_far:.4f}")

            result = perplexity(model.engine, chunks, on_chunk=on_chunk, on_logits=keep)
        yield PerplexityResult(path, result, n_ctx)


@contextmanager
def _base_writer(
    arguments: argparse.Namespace, model: Opened, chunks: list[list[int]]
) -> Iterator[Callable[[NDArray[np.float32]], None] | None]:
    """What takes the logits that count, if they shall be kept."""
    path: Path | None = arguments.kl_divergence_base
    if path is None:
        yield None
        return
    inputs = Inputs()
    for read in (*arguments.model, arguments.file):
        inputs.note(read)
    inputs.check_outputs([path])
    check_targets({path: base_size(len(chunks), len(chunks[0]), model.engine.n_vocab)})
    with whole_files([path]) as [stream]:
        yield BaseWriter(stream, chunks, model.engine.n_vocab).add


def _against_base(arguments: argparse.Namespace) -> Iterator[Result]:
    """Hold each model against the base's file."""
    with BaseLogits.open(arguments.kl_divergence_base) as base:
        if arguments.ctx_size not in (None, base.n_ctx):
            raise GgufpyError(
                f"-c {arguments.ctx_size}: {base.path} has contexts of {base.n_ctx}; leave -c out"
            )
        for path in arguments.model:
            with opened(path, arguments, base.n_ctx) as model:
                chunks = chunks_of(model.tokenizer, base.tokens.ravel().tolist(), base.n_ctx)
                if arguments.file:
                    _check_text(arguments.file, model, chunks, base)
                yield _compared(path, model, base, chunks[: arguments.chunks])


def _check_text(path: Path, model: Opened, chunks: list[list[int]], base: BaseLogits) -> None:
    if text_chunks(model.tokenizer, read_text(path), base.n_ctx)[: len(chunks)] != chunks:
        raise GgufpyError(f"{path} is not the text of {base.path}; leave -f out, or write that file anew")


def _compared(path: Path, model: Opened, base: BaseLogits, chunks: list[list[int]]) -> KlResult:
    start, means = perf_counter(), list[float]()
    with progress(path, "chunks", len(chunks), base.n_ctx) as tell:

        def on_chunk(done: int, chunk: AgainstBase) -> None:
            means.append(float(chunk.kl.mean()))
            tell(done, f"KLD {sum(means) / done:.6f}")

        found = statistics(against_base(model.engine, base, chunks, on_chunk=on_chunk))
    return KlResult(path, found, len(chunks), _worst(model, base, chunks, found), perf_counter() - start)


def _worst(model: Opened, base: BaseLogits, chunks: list[list[int]], found: Statistics) -> Place:
    """Where the token is whose prediction is the worst, which is that of the position before."""
    chunk, row = divmod(found.worst.number, base.rows_per_chunk)
    position = scored_from(base.n_ctx) + row + 1
    tokens = chunks[chunk]
    before, token = (
        model.tokenizer.decode(part, special=True).decode(errors="replace")
        for part in (tokens[max(0, position - _BEFORE) : position], tokens[position : position + 1])
    )
    return Place(chunk + 1, position, token, before)
