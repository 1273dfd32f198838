"""The argument parser of all commands."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import ggufpy
from ggufpy.commands.console import one_line, printable

_LONG = re.compile(r"(--\w[\w-]*)(=.*)?", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """Reads options by their whole names, with "-" or "_" between words; has --version, and errors of a line.

    "-ngl" is not "-n gl", nor "--thr" "--threads": what others have is unknown here, never misread.
    remedies: what helps in place of an option that is not known; that of "": in place of a word too many.
    """

    def __init__(self, *, remedies: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._remedies = remedies or {}
        self.add_argument(
            "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="show the version"
        )

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Arguments; of those that are unknown, the error names the first."""
        words = map(_dashed, sys.argv[1:] if args is None else args)
        arguments, unknown = self.parse_known_args(list(words), namespace)
        if unknown:
            is_option = unknown[0].startswith("-")
            name = unknown[0].partition("=")[0] if is_option else ""
            problem = f"{printable(name)}: not supported" if is_option else f"{unknown[0]!r}: a word too many"
            self.error(problem, self._remedies.get(name))
        return arguments

    def error(self, message: str, remedy: str | None = None) -> NoReturn:
        """Say in a line what is wrong with the arguments, and exit with status 2."""
        self.exit(2, f"error: {one_line(message)}; {remedy or f'see {self.prog} --help'}\n")

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """What argparse takes an unknown name for: a short option with its value, or an abbreviation."""
        return []


class _Version(argparse.Action):
    """Looked up only where it is asked for, since that takes time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"ggufpy {ggufpy.__version__}")
        parser.exit()


def utf8(text: str) -> str:
    """The type of arguments that are texts: bytes of the system that are not UTF-8 come as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        problem = f"character {error.start} is not UTF-8; convert the text with iconv"
        raise argparse.ArgumentTypeError(problem) from None
    return text


def shares(text: str) -> list[float]:
    """The type of arguments that say how much there shall be of each of several things."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [0.0]
    if not all(0 < number < float("inf") for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: numbers above 0 with commas between them, as 3,1")
    return numbers


def _dashed(word: str) -> str:
    """The word, with "--ctx_size" spelled "--ctx-size", as llama.cpp reads it."""
    found = _LONG.fullmatch(word)
    return found[1].replace("_", "-") + (found[2] or "") if found else word
