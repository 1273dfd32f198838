"""What commands that measure how good models are share: opening one, and progress."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ggufpy.commands.console import printable
from ggufpy.commands.parser import Parser
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.check import check_vocabulary

# Told how many are done, and the figure so far.
OnDone = Callable[[int, str], None]


class Opened(NamedTuple):
    """A model that is ready to be measured."""

    file: GGUFFile
    tokenizer: Tokenizer
    engine: Engine


def engine_options(parser: Parser) -> None:
    """Add the options that say how a model computes, but for its KV cache."""
    option = parser.add_argument
    option("-t", "--threads", type=int, metavar="N", help="0 and default: one per physical core")
    option("--precision", choices=("exact", "fast", "int8"), default="fast", help="default: fast")


@contextmanager
def opened(path: Path, arguments: argparse.Namespace, n_ctx: int, n_seq: int = 1) -> Iterator[Opened]:
    """Open the model in a file, to compute as the command line says."""
    with GGUFFile.open(path) as file:
        tokenizer = load_tokenizer(file.metadata)
        engine = Engine.load(
            file,
            n_ctx=n_ctx,
            n_seq=n_seq,
            n_threads=arguments.threads,
            precision=arguments.precision,
            type_k=arguments.cache_type_k,
            type_v=arguments.cache_type_v,
        )
        check_vocabulary(file, tokenizer, engine)
        yield Opened(file, tokenizer, engine)


@contextmanager
def progress(path: Path, what: str, total: int, tokens_each: int = 0) -> Iterator[OnDone]:
    """A bar on stderr for a model, with tokens per second where each step takes so many, and a figure."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figure]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{printable(path.name)}: {what}", total=total, rate="", figure="")

        def show(done: int, figure: str) -> None:
            seconds = bar.tasks[0].elapsed
            rate = f"{done * tokens_each / seconds:.0f} tok/s" if tokens_each and seconds else ""
            bar.update(task, completed=done, rate=rate, figure=figure)

        yield show
