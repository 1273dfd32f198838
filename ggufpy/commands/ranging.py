"""`--method` and `--granularity` of commands that quantize, where scales are chosen by the weights alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ggufpy.calibrate.methods import BY_TEXT, METHOD_KEY, methods_of
from ggufpy.commands.parser import Parser
from ggufpy.errors import FormatError, GgufpyError
from ggufpy.quants.choice.planning import Metadata, Planned, with_entries
from ggufpy.quants.choice.ranging import ranged
from ggufpy.quants.ranges import GRANULARITIES, Range
from ggufpy.runtime.cpu import default_threads


def add_method(parser: Parser, help: str) -> None:
    """The options."""
    parser.add_argument("--method", type=_methods, default=(), metavar="NAME", help=help)
    reach = f"how far a scale of absmax ... mse reaches: {', '.join(GRANULARITIES)}; default: a block"
    parser.add_argument("--granularity", type=_granularity, metavar="NAME", help=reach)


def range_of(parser: Parser, arguments: argparse.Namespace) -> Range | None:
    """What is asked for, None if that needs a text; ends the program for options that do not go together."""
    methods: Sequence[str] = arguments.method
    if not methods or methods[0].partition("=")[0] in BY_TEXT:
        if arguments.granularity:
            parser.error("--granularity goes with a --method of absmax, zero-point, percentile=P, mse")
        return None
    (method,) = methods
    given = vars(arguments)
    for option in ("calibration", "calibration_chunks", "imatrix"):
        if given.get(option):
            problem = "looks at the weights alone; leave out"
            parser.error(f"--method {method} {problem} --{option.replace('_', '-')}")
    if given.get("search") == "thorough":
        parser.error(f"--method {method} and --search thorough are two ways to choose scales; choose one")
    return Range.named(method, arguments.granularity)


def in_range(
    metadata: Metadata, planned: Sequence[Planned], how: Range, threads: int | None
) -> dict[str, Any]:
    """The fields of a plan whose tensors get their scales that way; raises FormatError for types without."""
    tensors = ranged(planned, how, threads or default_threads())
    if all(new is old for new, old in zip(tensors, planned, strict=True)):
        raise FormatError(f"--method {how.names[0]}: no tensor becomes blocks; name a type such as q4_0")
    return {"metadata": with_entries(metadata, {METHOD_KEY: ",".join(how.names)}), "planned": tensors}


def _methods(text: str) -> tuple[str, ...]:
    try:
        return methods_of(text)
    except GgufpyError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _granularity(text: str) -> str:
    try:
        Range.named("mse", text)
    except GgufpyError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
