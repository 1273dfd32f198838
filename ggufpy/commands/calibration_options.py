"""The options of commands that quantize by a text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ggufpy.calibrate.methods import BEST, BY_TEXT, METHODS
from ggufpy.commands.parser import Parser
from ggufpy.commands.ranging import add_method
from ggufpy.quants.ranges import Range

if TYPE_CHECKING:
    from ggufpy.commands.calibrating import Calibration

_BY_WEIGHTS = ", ".join(name for name, needs_text in METHODS.items() if not needs_text)
_CHUNKS = 64  # that texts are read in, at most


def add_calibration(parser: Parser) -> None:
    """--calibration, and how it works."""
    option = parser.add_argument
    text = "round by what the network computes of a text (or FILE.jsonl of chats); repeatable"
    option("--calibration", type=Path, action="append", metavar="FILE", help=text)
    names = f"with commas between: {', '.join(BY_TEXT)}; default: {BEST}"
    add_method(parser, f"{names}. Or, without a text: {_BY_WEIGHTS}")
    chunks = f"contexts of 512 tokens of it, spread evenly; default: {_CHUNKS}"
    option("--calibration-chunks", type=_count, metavar="N", help=chunks)


def check_calibration(parser: Parser, arguments: argparse.Namespace, how: Range | None) -> None:
    """End the program for options that go with --calibration, where that is not given."""
    if (arguments.method and how is None) or arguments.calibration_chunks:
        parser.error("--method, --calibration-chunks: say how --calibration works, which is not given")


def asked_of(arguments: argparse.Namespace, inputs: Sequence[Path] = ()) -> Calibration:
    """What is asked for; inputs: more files that must stay."""
    from ggufpy.commands.calibrating import Calibration

    methods, most = arguments.method or (BEST,), arguments.calibration_chunks or _CHUNKS
    return Calibration(arguments.calibration, methods, most, inputs)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
