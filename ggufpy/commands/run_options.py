"""What the command line of `ggufpy run` says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufpy.errors import GgufpyError
from ggufpy.runtime.cpu import MOST_THREADS

if TYPE_CHECKING:
    from ggufpy.generate.sampler import SamplingParams

# Without -c, a context is no larger than this: models made for 128k tokens would ask for gigabytes.
LARGEST_DEFAULT_CONTEXT = 8192

# Option, key below general.sampling, llama.cpp's default, smallest and largest value.
_SAMPLING: dict[str, tuple[str, float, float, float]] = {
    "temp": ("temp", 0.8, 0, float("inf")),
    "top_k": ("top_k", 40, -(2**31), 2**31 - 1),
    "top_p": ("top_p", 0.95, 0, 1),
    "min_p": ("min_p", 0.05, 0, 1),
    "repeat_penalty": ("penalty_repeat", 1.0, 0.01, 100),
}


def run_parser() -> argparse.ArgumentParser:
    """The parser; names and meanings are llama.cpp's."""
    parser = argparse.ArgumentParser(
        prog="ggufpy run",
        description="Chat with a GGUF model. Without -m: with the small model that ggufpy brings along.",
        epilog="With stdin not a terminal, one prompt (-p, else what stdin holds) is answered on stdout.",
        allow_abbrev=False,
    )
    model = parser.add_argument_group("model and prompt").add_argument
    model("-m", "--model", type=Path, metavar="FILE", help="a GGUF file; of a split model, the first")
    model("-p", "--prompt", metavar="TEXT", help="the first message, or with -no-cnv the text to complete")
    model("-sys", "--system-prompt", metavar="TEXT", help="the system message")
    model("-no-cnv", "--no-conversation", action="store_true", help="complete the prompt's text; no chat")
    limit = parser.add_argument_group("limits").add_argument
    predict = ("-n", "--predict", "--n-predict")
    limit(
        *predict,
        type=int,
        default=-1,
        metavar="N",
        help="tokens per answer; -1: no limit, -2: till the context is full",
    )
    context = f"tokens of context; 0: the model's own; default: that, up to {LARGEST_DEFAULT_CONTEXT}"
    limit("-c", "--ctx-size", type=int, metavar="N", help=context)
    limit("-t", "--threads", type=int, metavar="N", help="0 and default: one per physical core")
    cache_options(limit)
    memory = parser.add_argument_group("memory").add_argument
    memory(
        "--no-mmap", action="store_true", help="read the file into memory, instead of using it where it lies"
    )
    memory("--mlock", action="store_true", help="keep the system from paging the weights out")
    huge = "ask for huge pages for weights that are yet to be read from the disk; default: yes"
    memory("--huge-pages", action=argparse.BooleanOptionalAction, default=True, help=huge)
    draw = parser.add_argument_group(
        "sampling", "default: what the file says, else the number here"
    ).add_argument
    draw("--temp", type=float, metavar="T", help="temperature, 0: the likeliest token; 0.8")
    draw("--top-k", type=int, metavar="K", help="choose among the K likeliest, 0 or less: all; 40")
    draw("--top-p", type=float, metavar="P", help="choose among the likeliest, P together; 0.95")
    draw("--min-p", type=float, metavar="P", help="least probability, as a share of the likeliest's; 0.05")
    draw("--repeat-penalty", type=float, metavar="R", help="for tokens that came lately; 1.0")
    draw("-s", "--seed", type=int, default=-1, metavar="N", help="-1: another one each time")
    return parser


def cache_options(option: Callable[..., Any]) -> None:
    """Add the options for the types of the KV cache."""
    for letter, name in (("k", "keys"), ("v", "values")):
        text = f"what the KV cache keeps of {name}: f32, f16, bf16, q8_0 or q4_0; default: f16"
        option(f"-ct{letter}", f"--cache-type-{letter}", metavar="TYPE", help=text)


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse values that make no sense. Raises GgufpyError."""
    for option, value, least, most in (
        ("-n", arguments.predict, -2, 2**31 - 1),
        ("-c", arguments.ctx_size, 0, 2**31 - 1),
        ("-t", arguments.threads, -1, MOST_THREADS),
        ("--seed", arguments.seed, -1, 2**32 - 1),
    ):
        if value is not None and not least <= value <= most:
            raise GgufpyError(f"{option} {value}: must be from {least} to {most}")
    if arguments.predict == 0:
        raise GgufpyError("-n 0: nothing to do; -1 is for no limit")
    for name, (_, _, lowest, highest) in _SAMPLING.items():
        value = getattr(arguments, name)
        if value is not None and not lowest <= value <= highest:
            raise GgufpyError(f"--{name.replace('_', '-')} {value}: must be from {lowest} to {highest}")


def check_texts(arguments: argparse.Namespace) -> None:
    """Refuse texts that are not UTF-8. Raises GgufpyError."""
    for option, text in (("-p", arguments.prompt), ("-sys", arguments.system_prompt)):
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise GgufpyError(
                f"{option}: character {error.start} is not UTF-8; convert the text with iconv"
            ) from None


def sampling_params(arguments: argparse.Namespace, metadata: Mapping[str, Any]) -> SamplingParams:
    """llama.cpp's defaults, changed by the file's general.sampling keys, changed by options."""
    from ggufpy.generate.sampler import SamplingParams

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


def context_size(arguments: argparse.Namespace, metadata: Mapping[str, Any]) -> int | None:
    """Tokens of context for `Engine.load`."""
    if arguments.ctx_size is not None:
        return arguments.ctx_size or None
    trained = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return LARGEST_DEFAULT_CONTEXT if isinstance(trained, int) and trained > LARGEST_DEFAULT_CONTEXT else None
