"""`ggufpy compare`: how good models are, how large and how fast, in one table."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from ggufpy.commands.compare_output import Row, as_json, as_markdown
from ggufpy.commands.console import run_command
from ggufpy.commands.evaluating import engine_options, opened, progress
from ggufpy.commands.parser import Parser
from ggufpy.errors import GgufpyError
from ggufpy.evaluate.against_base import against_base
from ggufpy.evaluate.base_logits import BaseLogits, BaseWriter, base_size
from ggufpy.evaluate.footprint import Footprint, footprint
from ggufpy.evaluate.perplexity import SMALLEST_CONTEXT, perplexity, read_text, text_chunks
from ggufpy.evaluate.speed import SpeedTest
from ggufpy.evaluate.statistics import statistics
from ggufpy.gguf.outputs import check_targets
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.cpu import default_threads
from ggufpy.runtime.state import CACHE_TYPES, cache_type

_EPILOG = """All are held against the base, which should be the best file that there is of the model; its
predictions lie on the disk meanwhile, where TMPDIR says. Speed, memory and the time to load are those of a
process of its own for each row: memory is all that it has, with Python and what was read of the file."""

# Names, default, least, meaning.
_NUMBERS: tuple[tuple[tuple[str, ...], int | None, int, str], ...] = (
    (("-c", "--ctx-size"), 512, SMALLEST_CONTEXT, "tokens of context, half of which is counted"),
    (("--chunks",), None, 1, "contexts of the text"),
    (("-p", "--n-prompt"), 512, 1, "tokens of a prompt, for its speed"),
    (("-n", "--n-gen"), 64, 1, "tokens to generate, for their speed"),
    (("-r", "--repetitions"), 3, 1, "how often speed is measured"),
)


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and return the exit status."""
    parser = Parser(
        prog="ggufpy compare",
        description="Compare models: how good they are, how large and how fast.",
        epilog=_EPILOG,
    )
    _add_options(parser)
    arguments = parser.parse_args(argv)
    for names, _, least, _ in _NUMBERS:
        value = getattr(arguments, names[-1].removeprefix("--").replace("-", "_"))
        if value is not None and value < least:
            parser.error(f"{names[0]} {value}: at least {least}")
    return run_command(lambda: _compare(arguments))


def _add_options(parser: Parser) -> None:
    option = parser.add_argument
    option("models", nargs="+", type=Path, metavar="MODEL", help="GGUF files of the same vocabulary")
    option("-f", "--file", type=Path, required=True, metavar="TEXT", help="a text, in UTF-8")
    option("--base", type=Path, metavar="FILE", help="what the others are held against; default: the first")
    types = f"of the KV cache, a row for each: {', '.join(type.label for type in CACHE_TYPES)}; default: f16"
    option("--cache-types", type=_names, default=["f16"], metavar="TYPE,...", help=types)
    for names, default, _, meaning in _NUMBERS:
        option(*names, type=int, default=default, metavar="N", help=f"{meaning}; default: {default or 'all'}")
    engine_options(parser)
    option("-o", "--output", choices=("md", "json"), default="md", help="default: md")
    option("--plot", type=Path, metavar="FILE", help="write a PNG of divergence against size")


def _names(text: str) -> list[str]:
    try:
        return [cache_type(name, CACHE_TYPES[0]).label for name in text.split(",")]
    except GgufpyError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.plot:
        _check_plot(arguments.plot)
    base = arguments.base or arguments.models[0]
    models = [base, *(path for path in arguments.models if path != base)]
    for path in models:  # before hours are spent: whether they are there
        with GGUFFile.open(path):
            pass
    text = read_text(arguments.file)
    with TemporaryDirectory(prefix="ggufpy-") as folder:
        kept = Path(folder) / "base"
        chunks = _keep_base(base, kept, text, arguments)
        with BaseLogits.open(kept) as logits:
            rows = [
                _row(path, cache, text, chunks, logits, arguments)
                for path in models
                for cache in arguments.cache_types
            ]
    if arguments.plot:
        from ggufpy.commands.compare_plot import plot

        plot(arguments.plot, rows)
        print(arguments.plot, file=sys.stderr)
    print(as_json(rows) if arguments.output == "json" else as_markdown(rows))
    return 0


def _check_plot(path: Path) -> None:
    """Before hours are spent: whether there can be a plot."""
    if find_spec("matplotlib") is None:
        raise GgufpyError("--plot needs matplotlib; run pip install 'ggufpy[plots]'")
    if path.suffix.lower() != ".png":
        raise GgufpyError(f"--plot {path}: is a PNG; let its name end in .png")
    check_targets({path: 0})


def _keep_base(path: Path, kept: Path, text: str, arguments: argparse.Namespace) -> list[list[int]]:
    """Write what the base predicts, and return the text in its tokens."""
    with opened(path, _with_cache(arguments, arguments.cache_types[0]), arguments.ctx_size) as model:
        chunks = text_chunks(model.tokenizer, text, arguments.ctx_size)[: arguments.chunks]
        check_targets({kept: base_size(len(chunks), arguments.ctx_size, model.engine.n_vocab)})
        with (
            kept.open("wb") as stream,
            progress(path, "base", len(chunks), arguments.ctx_size) as tell,
        ):
            writer = BaseWriter(stream, chunks, model.engine.n_vocab)
            perplexity(
                model.engine,
                chunks,
                on_chunk=lambda done, so_far: tell(done, f"PPL {so_far:.4f}"),
                on_logits=writer.add,
            )
    return chunks


def _row(
    path: Path,
    cache: str,
    text: str,
    base_chunks: list[list[int]],
    base: BaseLogits,
    arguments: argparse.Namespace,
) -> Row:
    with opened(path, _with_cache(arguments, cache), arguments.ctx_size) as model:
        chunks = text_chunks(model.tokenizer, text, arguments.ctx_size)[: arguments.chunks]
        if chunks != base_chunks or model.engine.n_vocab != base.n_vocab:
            raise GgufpyError(f"{path} cuts the text into other tokens than the base; compare it apart")
        with progress(path, cache, len(chunks), arguments.ctx_size) as tell:
            found = statistics(
                against_base(
                    model.engine,
                    base,
                    chunks,
                    on_chunk=lambda done, part: tell(done, f"KLD {part.kl.mean():.6f}"),
                )
            )
        tensors = model.file.tensors.values()
        n_bytes = sum(tensor.n_bytes for tensor in tensors)
        n_parameters = sum(prod(tensor.shape) for tensor in tensors)
    return Row(path, cache, n_bytes, n_parameters, found, _footprint(path, cache, arguments))


def _footprint(path: Path, cache: str, arguments: argparse.Namespace) -> Footprint:
    threads = arguments.threads or default_threads()
    prompt = SpeedTest(arguments.n_prompt, 0, 0, threads, cache, cache)
    generation = SpeedTest(0, arguments.n_gen, 0, threads, cache, cache)
    return footprint(path, prompt, generation, arguments.repetitions)


def _with_cache(arguments: argparse.Namespace, cache: str) -> argparse.Namespace:
    return argparse.Namespace(**vars(arguments), cache_type_k=cache, cache_type_v=cache)
