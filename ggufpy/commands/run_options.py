"""What the command line of `ggufpy run` says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ggufpy.commands.llama_flags import add_flags_without_effect, remedies
from ggufpy.commands.parser import Parser, utf8
from ggufpy.errors import GgufpyError
from ggufpy.runtime.cpu import MOST_THREADS

if TYPE_CHECKING:
    from ggufpy.generate.sampler import SamplingParams

# Without -c, a context is no larger than this: models made for 128k tokens would ask for gigabytes.
LARGEST_DEFAULT_CONTEXT = 8192

_INT32_MAX = 2**31 - 1


class _Number(NamedTuple):
    """A number of the sampler: its options, its key below general.sampling, its default, its bounds."""

    options: str
    key: str | None
    default: float
    least: float
    most: float
    help: str


# Names and defaults are llama.cpp's; it has keys for some of them only.
_SAMPLING = {
    "temp": _Number("--temp --temperature", "temp", 0.8, 0, float("inf"), "temperature, 0: the likeliest"),
    "top_k": _Number("--top-k", "top_k", 40, -(2**31), _INT32_MAX, "of the N likeliest, 0 or less: of all"),
    "top_p": _Number("--top-p", "top_p", 0.95, 0, 1, "of the likeliest with so much probability together"),
    "min_p": _Number("--min-p", "min_p", 0.05, 0, 1, "least probability, as a share of the likeliest's"),
    "typical_p": _Number("--typical --typical-p", None, 1.0, 0, 1, "locally typical ones, 1: all"),
    "repeat_penalty": _Number("--repeat-penalty", "penalty_repeat", 1.0, 0.01, 100, "for lately used tokens"),
    "repeat_last_n": _Number(
        "--repeat-last-n", "penalty_last_n", 64, 0, _INT32_MAX, "tokens that are lately"
    ),
    "presence_penalty": _Number("--presence-penalty", None, 0.0, -100, 100, "taken off if lately used"),
    "frequency_penalty": _Number("--frequency-penalty", None, 0.0, -100, 100, "taken off for each such use"),
}

_DESCRIPTION = """Chat with a GGUF model. Without -m: with the small model that ggufpy brings along. Options
are those of llama-cli; what it has for GPUs, batches, logs and the like (-ngl, -fa, -ub, --jinja, ...) is
taken and changes nothing."""
_EPILOG = """With stdin not a terminal, one prompt is answered on stdout: what stdin holds and, behind an
empty line, what -p or -f says. Scripts that have another use for stdin give < /dev/null."""


def run_parser() -> Parser:
    """The parser; names and meanings are llama.cpp's."""
    parser = Parser(
        prog="ggufpy run",
        usage="ggufpy run [-m FILE] [-p TEXT] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        remedies=remedies(),
    )
    model = parser.add_argument_group("model").add_argument
    model("-m", "--model", type=Path, metavar="FILE", help="a GGUF file; of a split model, the first")
    _template_options(parser)
    _text_options(parser)
    _chat_options(parser)
    _limit_options(parser)
    _memory_options(parser)
    _sampling_options(parser)
    add_flags_without_effect(parser)
    return parser


def cache_options(option: Callable[..., Any]) -> None:
    """Add the options for the types of the KV cache."""
    for letter, name in (("k", "keys"), ("v", "values")):
        text = f"what the KV cache keeps of {name}: f32, f16, bf16, q8_0 or q4_0; default: f16"
        option(f"-ct{letter}", f"--cache-type-{letter}", metavar="TYPE", help=text)


def _template_options(parser: Parser) -> None:
    template = parser.add_argument_group(
        "chat template", "default: the file's"
    ).add_mutually_exclusive_group()
    text = "Jinja, or the name of a template in the file, or chatml"
    template.add_argument("--chat-template", type=utf8, metavar="TEMPLATE", help=text)
    template.add_argument("--chat-template-file", type=Path, metavar="FILE", help="Jinja")


def _text_options(parser: Parser) -> None:
    texts = parser.add_argument_group("texts")
    prompt = texts.add_mutually_exclusive_group().add_argument
    prompt(
        "-p",
        "--prompt",
        type=utf8,
        metavar="TEXT",
        help="the first message, or with -no-cnv the text to complete",
    )
    prompt("-f", "--file", type=Path, metavar="FILE", help="the same, read from a file as it is")
    escapes = r"take \n, \t, \\, \xHH, ... in -p and -r for what they stand for; default: yes"
    texts.add_argument("-e", "--escape", action=argparse.BooleanOptionalAction, default=True, help=escapes)
    system = texts.add_mutually_exclusive_group().add_argument
    system("-sys", "--system-prompt", type=utf8, metavar="TEXT", help="the system message")
    system("-sysf", "--system-prompt-file", type=Path, metavar="FILE", help="the same, read from a file")


def _chat_options(parser: Parser) -> None:
    group = parser.add_argument_group("chat and completion")
    chat, flag = group.add_argument, argparse.BooleanOptionalAction
    chat("-no-cnv", "--no-conversation", action="store_true", help="complete the text; no chat")
    chat("-cnv", "--conversation", action="store_false", dest="no_conversation", help="chat; the default")
    chat("-st", "--single-turn", action="store_true", help="answer one message, then leave")
    stop = "end the answer in front of this text; repeatable"
    chat("-r", "--reverse-prompt", action="append", type=utf8, default=[], metavar="TEXT", help=stop)
    chat("--ignore-eos", action="store_true", help="never end of its own accord")
    chat("--display-prompt", action=flag, default=True, help="show the text to complete; default: yes")
    chat("--perf", "--show-timings", action=flag, default=True, help="show tokens per second; default: yes")
    group.set_defaults(no_conversation=False)


def _limit_options(parser: Parser) -> None:
    limit = parser.add_argument_group("limits").add_argument
    predict = "tokens per answer; -1, the default: no limit, -2: till the context is full"
    limit("-n", "--predict", "--n-predict", type=int, default=-1, metavar="N", help=predict)
    context = f"tokens of context; 0: the model's own; default: that, up to {LARGEST_DEFAULT_CONTEXT}"
    limit("-c", "--ctx-size", type=int, metavar="N", help=context)
    limit("-t", "--threads", type=int, metavar="N", help="0 and default: one per physical core")
    cache_options(limit)


def _memory_options(parser: Parser) -> None:
    memory = parser.add_argument_group("memory").add_argument
    read = "read the file into memory, instead of using it where it lies"
    memory("--no-mmap", action="store_true", help=read)
    memory("--mlock", action="store_true", help="keep the system from paging the weights out")
    huge = "ask for huge pages for weights that are yet to be read from the disk; default: yes"
    memory("--huge-pages", action=argparse.BooleanOptionalAction, default=True, help=huge)


def _sampling_options(parser: Parser) -> None:
    about = "each token is drawn among some; default: what the file says, else the number here"
    draw = parser.add_argument_group("sampling", about).add_argument
    for name, number in _SAMPLING.items():
        text = f"{number.help}; {number.default}"
        draw(*number.options.split(), type=type(number.default), dest=name, metavar="N", help=text)
    draw("-s", "--seed", type=int, default=-1, metavar="N", help="-1: another one each time")


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse values that make no sense. Raises GgufpyError."""
    for option, value, least, most in (
        ("-n", arguments.predict, -2, _INT32_MAX),
        ("-c", arguments.ctx_size, 0, _INT32_MAX),
        ("-t", arguments.threads, -1, MOST_THREADS),
        ("--seed", arguments.seed, -1, 2**32 - 1),
        *((n.options.split()[0], getattr(arguments, name), n.least, n.most) for name, n in _SAMPLING.items()),
    ):
        if value is not None and not least <= value <= most:
            raise GgufpyError(f"{option} {value}: must be from {least} to {most}")
    if arguments.predict == 0:
        raise GgufpyError("-n 0: nothing to do; -1 is for no limit")


def sampling_params(arguments: argparse.Namespace, metadata: Mapping[str, Any]) -> SamplingParams:
    """llama.cpp's defaults, changed by the file's general.sampling keys, changed by options."""
    from ggufpy.generate.sampler import SamplingParams

    values: dict[str, Any] = {}
    for name, number in _SAMPLING.items():
        value = getattr(arguments, name)
        if value is None:
            kept = metadata.get(f"general.sampling.{number.key}") if number.key else None
            sensible = isinstance(kept, int | float) and number.least <= kept <= number.most
            value = kept if sensible else number.default
        values[name] = type(number.default)(value)
    return SamplingParams(**values, seed=arguments.seed if arguments.seed >= 0 else None)


def context_size(arguments: argparse.Namespace, metadata: Mapping[str, Any]) -> int | None:
    """Tokens of context for `Engine.load`."""
    if arguments.ctx_size is not None:
        return arguments.ctx_size or None
    trained = trained_context(metadata)
    return LARGEST_DEFAULT_CONTEXT if trained is not None and trained > LARGEST_DEFAULT_CONTEXT else None


def trained_context(metadata: Mapping[str, Any]) -> int | None:
    """How long the texts were that the model was made for, in tokens, where the file says it."""
    trained = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return trained if isinstance(trained, int) else None
