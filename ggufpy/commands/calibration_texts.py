"""Texts that a model is calibrated on: plain ones, and chats as its template writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ggufpy.calibrate.chunks import mixed
from ggufpy.calibrate.squares import SquaresOfLinears
from ggufpy.errors import FormatError, GgufpyError, TemplateError
from ggufpy.evaluate.perplexity import read_text
from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.chunks import chunks_of


def chunks_of_texts(
    file: GGUFFile,
    paths: Sequence[Path],
    size: int,
    mix: Sequence[float] | None = None,
    *,
    parse_special: bool = False,
) -> list[list[int]]:
    """All texts as contexts of `size` tokens; mix: the share of each text. Raises as `tokens_of`."""
    tokenizer, kinds = load_tokenizer(file.metadata), []
    for path in paths:
        tokens = tokens_of(path, tokenizer, file.metadata, parse_special=parse_special)
        kinds.append(chunks_of(tokenizer, tokens, size))
        if not kinds[-1]:
            problem = f"has {len(tokens)} tokens, and a context {size}"
            raise GgufpyError(f"{path}: {problem}; give a longer text")
    return mixed(kinds, mix) if mix else [chunk for kind in kinds for chunk in kind]


@contextmanager
def counting(what: str, total: int | None, unit: str, each: float) -> Iterator[Callable[..., None]]:
    """Progress on stderr; what it gives is told how many are done, and perhaps of how many.

    each: units of one.
    """
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, rate="")

        def show(done: int, total: int | None = total) -> None:
            seconds = progress.tasks[0].elapsed
            rate = f"{done * each / seconds:.3g} {unit}" if seconds else ""
            progress.update(task, completed=done, total=total, rate=rate)

        yield show


def squares_of(
    file: GGUFFile, chunks: Sequence[list[int]], *, n_threads: int | None, precision: str = "fast"
) -> SquaresOfLinears:
    """What the model's linears read of chunks of one length, with progress on stderr."""
    size = len(chunks[0])
    squares = SquaresOfLinears(file, size, n_threads=n_threads, precision=precision)
    with counting("contexts", len(chunks), "tok/s", size) as show:
        squares.read(chunks, show)
    return squares


def tokens_of(
    path: Path, tokenizer: Tokenizer, metadata: Mapping[str, Any], *, parse_special: bool = False
) -> list[int]:
    """The tokens of a text, with BOS where the model wants one; of FILE.jsonl those of all its chats.

    A line of such a file is {"messages": [...]}, or the list. Raises FormatError for lines that are neither,
    and for chats that the template refuses, OSError.
    """
    if path.suffix != ".jsonl":
        return tokenizer.encode(read_text(path), parse_special=parse_special)
    from ggufpy.chat.templates import ChatTemplate
    from ggufpy.generate.completion import encode_prompt

    template = ChatTemplate.from_metadata(metadata)
    tokens = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            chat = template.render(_messages(line), add_generation_prompt=False)
        except (ValueError, TemplateError) as error:
            raise FormatError(f"{path}, line {number}: {error}") from None
        tokens += encode_prompt(tokenizer, chat)
    return tokens


def _messages(line: bytes) -> Any:
    """The messages of a chat; raises ValueError."""
    try:
        chat = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    messages = chat.get("messages") if isinstance(chat, dict) else chat
    if not isinstance(messages, list) or not messages:
        raise ValueError('no chat; a line is {"messages": [...]}, or the list of messages')
    return messages
