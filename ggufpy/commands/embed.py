"""`ggufpy embed`: vectors of texts, or how well documents answer queries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufpy.commands.console import one_line, run_command
from ggufpy.commands.llama_flags import add_flags_without_effect, remedies
from ggufpy.commands.parser import Parser, utf8
from ggufpy.commands.texts import decoded, text_of, unescaped
from ggufpy.errors import ContextError, GgufpyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ggufpy.embedding.embedder import Embedder
    from ggufpy.embedding.texts import Reader, Text
    from ggufpy.gguf.reader import GGUFFile

_POOLINGS = ("none", "mean", "cls", "last", "rank")
_RANK = _POOLINGS.index("rank")
_LEAST = 512  # rows that are computed together, where texts are short

_EPILOG = """With --pooling rank a text is a query and a document, with a tab between them; scores are not
normalized. Options are those of llama-embedding; what it has for GPUs, batches and logs is taken and changes
nothing."""


def main(argv: list[str] | None = None) -> int:
    """Print the vectors of texts and return the exit status."""
    parser = Parser(
        prog="ggufpy embed",
        description="Turn texts into vectors, or rank documents.",
        epilog=_EPILOG,
        remedies=remedies(),
    )
    option = parser.add_argument
    option("-m", "--model", type=Path, required=True, metavar="FILE", help="a GGUF file")
    prompt = parser.add_mutually_exclusive_group().add_argument
    prompt("-p", "--prompt", type=utf8, metavar="TEXT", help="texts, a line each; without it: from stdin")
    prompt("-f", "--file", type=Path, metavar="FILE", help="the same, from a file")
    escapes = r"take \n, \t, \\, \xHH, ... in -p and separators for what they stand for; default: yes"
    option("-e", "--escape", action=argparse.BooleanOptionalAction, default=True, help=escapes)
    option("--embd-separator", type=utf8, default="\n", metavar="TEXT", help="between texts; default: \\n")
    separator = "between query and document; default: \\t"
    option("--cls-separator", type=utf8, default="\t", metavar="TEXT", help=separator)
    option("--pooling", choices=_POOLINGS, help="what is made of a text's tokens; default: as the file says")
    option("--attention", choices=("causal", "non-causal"), help="default: as the file says")
    norm = "-1: none, 0: to a largest value of 32760, 1: taxicab, 2: euclidean, more: p-norm; default: 2"
    option("--embd-normalize", type=int, default=2, metavar="N", help=norm)
    formats = ("", "array", "json", "json+", "raw")
    output = "array, json, json+ (with similarities) or raw; default: for people"
    option("--embd-output-format", choices=formats, default="", metavar="FORMAT", help=output)
    option("-c", "--ctx-size", type=int, default=0, metavar="N", help="tokens of a text; 0: the model's own")
    option("-t", "--threads", type=int, metavar="N", help="0 and default: one per physical core")
    option("--precision", choices=("exact", "fast", "int8"), default="fast", help="default: fast")
    add_flags_without_effect(parser)
    arguments = parser.parse_args(argv)
    for name, value, least in (
        ("-c", arguments.ctx_size, 0),
        ("-t", arguments.threads, -1),
        ("--embd-normalize", arguments.embd_normalize, -1),
    ):
        if value is not None and value < least:
            parser.error(f"{name} {value}: at least {least}")
    return run_command(lambda: _embed(arguments))


def _embed(arguments: argparse.Namespace) -> int:
    prompts = _prompts(arguments)
    # NumPy, the tokenizers and the engine: only for a good command line.
    import numpy as np

    from ggufpy.embedding.norms import normalized
    from ggufpy.gguf.reader import GGUFFile

    with GGUFFile.open(arguments.model) as file:
        embedder, texts = _opened(file, arguments, prompts)
        rows = np.concatenate(embedder.embed(texts))
    norm = -1 if embedder.pooling == "rank" else arguments.embd_normalize
    print(
        _formatted(normalized(rows, norm), arguments.embd_output_format, embedder, prompts, whole=norm == 0)
    )
    return 0


def _formatted(
    rows: NDArray[np.float32], format: str, embedder: Embedder, prompts: list[str], *, whole: bool
) -> str:
    from ggufpy.commands import embed_output

    if format:
        return embed_output.formatted(rows, format, whole=whole)
    if embedder.pooling == "rank":
        return embed_output.readable_scores(rows, embedder.labels)
    if embedder.pooling == "none":
        return embed_output.readable_tokens(rows, whole=whole)
    return embed_output.readable(rows, [one_line(prompt) for prompt in prompts], whole=whole)


def _prompts(arguments: argparse.Namespace) -> list[str]:
    escape = arguments.escape
    text = text_of("-p", arguments.prompt, arguments.file, escape=escape)
    if text is None and not sys.stdin.isatty():
        text = decoded("stdin", sys.stdin.buffer.read())
    separator = unescaped("--embd-separator", arguments.embd_separator, escape=escape)
    if not text:
        raise GgufpyError("no text to embed: give one with -p, -f or on stdin")
    return text.split(separator) if separator else [text]


def _opened(file: GGUFFile, arguments: argparse.Namespace, prompts: list[str]) -> tuple[Embedder, list[Text]]:
    """The model, with room for the longest text, and the texts' tokens. Raises ContextError."""
    from ggufpy.embedding.embedder import Embedder
    from ggufpy.embedding.texts import Reader
    from ggufpy.tokenizers import load_tokenizer

    metadata: Mapping[str, Any] = file.metadata
    prefix = f"{metadata.get('general.architecture')}."
    pooling = _POOLINGS.index(arguments.pooling) if arguments.pooling else None
    ranks = (metadata.get(f"{prefix}pooling_type") if pooling is None else pooling) == _RANK
    tokenizer = load_tokenizer(metadata)
    reader = Reader(tokenizer, metadata)
    separator = unescaped("--cls-separator", arguments.cls_separator, escape=arguments.escape)
    texts = [_text(reader, prompt, separator if ranks else "") for prompt in prompts]
    _check_length(texts, arguments.ctx_size or metadata.get(f"{prefix}context_length"))
    room = max(_LEAST, *(len(text.tokens) for text in texts))
    embedder = Embedder(
        file,
        tokenizer,
        pooling=pooling,
        causal={"causal": True, "non-causal": False}.get(arguments.attention),
        n_ctx=room,
        n_batch=room,
        n_threads=max(arguments.threads or 0, 0),
        precision=arguments.precision,
    )
    _check_length(texts, embedder.most)
    return embedder, texts


def _text(reader: Reader, prompt: str, separator: str) -> Text:
    """A text, or a pair where it has the separator."""
    if separator and separator in prompt:
        query, _, document = prompt.partition(separator)
        return reader.pair(query, document)
    return reader.text(prompt, parse_special=True)


def _check_length(texts: list[Text], most: Any) -> None:
    for number, text in enumerate(texts, 1):
        if isinstance(most, int) and len(text.tokens) > most:
            problem = f"text {number} has {len(text.tokens)} tokens, at most {most} fit"
            raise ContextError(f"{problem}; shorten it, or raise -c if the model allows that")
