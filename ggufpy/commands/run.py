"""`ggufpy run`: chat with a GGUF model in the terminal, answer one prompt, or complete a text."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufpy.commands.console import run_command
from ggufpy.errors import GgufpyError

if TYPE_CHECKING:
    from ggufpy.gguf.reader import GGUFFile
    from ggufpy.runtime.sampler import SamplingParams

# Without -c, a context is no larger than this: models made for 128k tokens would ask for gigabytes.
LARGEST_DEFAULT_CONTEXT = 8192
DEFAULT_PROMPT = "What is a river?"

# Option, key below general.sampling, llama.cpp's default, smallest and largest value.
_SAMPLING: dict[str, tuple[str, float, float, float]] = {
    "temp": ("temp", 0.8, 0, float("inf")),
    "top_k": ("top_k", 40, 0, 2**31 - 1),
    "top_p": ("top_p", 0.95, 0, 1),
    "min_p": ("min_p", 0.05, 0, 1),
    "repeat_penalty": ("penalty_repeat", 1.0, 0.01, 100),
}


def main(argv: list[str] | None = None) -> int:
    """Run a model and return the exit status."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ggufpy run",
        description="Chat with a GGUF model. Without -m: with the small model that ggufpy brings along.",
        epilog="With stdin not a terminal, one prompt (-p, else what stdin holds) is answered on stdout.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-m", "--model", type=Path, metavar="FILE", help="a GGUF file; of a split model, the first")
    add("-p", "--prompt", metavar="TEXT", help="the first message, or with -no-cnv the text to complete")
    add("-sys", "--system-prompt", metavar="TEXT", help="the system message")
    add("-no-cnv", "--no-conversation", action="store_true", help="complete the prompt's text; no chat")
    add("-n", "--predict", "--n-predict", type=int, default=-1, metavar="N", help="tokens per answer; -1: no limit")
    add("-c", "--ctx-size", type=int, metavar="N", help="tokens of context; 0: the model's own; default: that, up to 8192")
    add("-t", "--threads", type=int, metavar="N", help="default: one per physical core")
    add("-s", "--seed", type=int, default=-1, metavar="N", help="-1: another one each time")
    defaults = "default: the file's, else %s"
    add("--temp", type=float, metavar="T", help="temperature, 0: the likeliest token; " + defaults % "0.8")
    add("--top-k", type=int, metavar="K", help="choose among the K likeliest, 0: all; " + defaults % "40")
    add("--top-p", type=float, metavar="P", help="choose among the likeliest with P together; " + defaults % "0.95")
    add("--min-p", type=float, metavar="P", help="least probability, as a share of the likeliest's; " + defaults % "0.05")
    add("--repeat-penalty", type=float, metavar="R", help="for tokens of the last 64; " + defaults % "1.0")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
    interactive = sys.stdin is not None and sys.stdin.isatty()
    if arguments.no_conversation and interactive and arguments.prompt is None:
        raise GgufpyError("-no-cnv: nothing to complete; give a text with -p")
    first = arguments.prompt if interactive or arguments.prompt is not None else _piped()
    from ggufpy.commands.session import Session  # NumPy, the tokenizers and the engine: only for a good command line

    with Session.open(arguments) as session:
        if arguments.no_conversation:
            session.complete(first)
        elif interactive:
            from ggufpy.commands.terminal import talk

            talk(session, first)
        else:
            session.answer(first)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse values that make no sense. Raises GgufpyError."""
    for option, value, least in (
        ("-n", arguments.predict, -1),
        ("-c", arguments.ctx_size, 0),
        ("-t", arguments.threads, 1),
        ("--seed", arguments.seed, -1),
    ):
        if value is not None and value < least:
            raise GgufpyError(f"{option} {value}: at least {least}")
    if arguments.predict == 0:
        raise GgufpyError("-n 0: nothing to do; -1 is for no limit")
    for name, (_, _, least, most) in _SAMPLING.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise GgufpyError(f"--{name.replace('_', '-')} {value}: from {least} to {most}")


def sampling_params(arguments: argparse.Namespace, metadata: Mapping[str, Any]) -> SamplingParams:
    """llama.cpp's defaults, changed by the file's general.sampling keys, changed by options."""
    from ggufpy.runtime.sampler import SamplingParams

    values: dict[str, Any] = {}
    for name, (key, default, least, most) in _SAMPLING.items():
        given = getattr(arguments, name)
        kept = metadata.get(f"general.sampling.{key}", default)
        sensible = isinstance(kept, int | float) and least <= kept <= most
        values[name] = type(default)(given if given is not None else kept if sensible else default)
    last_n = metadata.get("general.sampling.penalty_last_n")
    if isinstance(last_n, int) and last_n >= 0:
        values["repeat_last_n"] = last_n
    return SamplingParams(**values, seed=arguments.seed if arguments.seed >= 0 else None)


def context_size(arguments: argparse.Namespace, file: GGUFFile) -> int | None:
    """Tokens of context for `Engine.load`."""
    if arguments.ctx_size is not None:
        return arguments.ctx_size or None
    architecture = file.metadata.get("general.architecture")
    trained = file.metadata.get(f"{architecture}.context_length")
    return LARGEST_DEFAULT_CONTEXT if isinstance(trained, int) and trained > LARGEST_DEFAULT_CONTEXT else None


def _piped() -> str:
    """What stdin holds, or a greeting if that is nothing."""
    text = "" if sys.stdin is None else sys.stdin.buffer.read().decode("utf-8", errors="replace")
    return text.strip() or DEFAULT_PROMPT
