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
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}
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
    target = parser.add_mutually_exclusive_group()
    bpw = "choose a type for each tensor, for so many bits per weight; TYPE is for what stays"
    target.add_argument("--target-bpw", type=_bpw, metavar="X", help=bpw)
    size = "the same, for a file of at most so many bytes: 500M, 2G"
    target.add_argument("--target-size", type=byte_size, metavar="SIZE", help=size)


def check_calibration(parser: Parser, arguments: argparse.Namespace, how: Range | None) -> None:
    """End the program for options that go with --calibration, where that is not given."""
    if (arguments.method and how is None) or arguments.calibration_chunks:
        parser.error("--method, --calibration-chunks: say how --calibration works, which is not given")
    if arguments.target_bpw or arguments.target_size:
        parser.error("--target-bpw, --target-size: types are chosen by a text; give --calibration")


def asked_of(arguments: argparse.Namespace, inputs: Sequence[Path] = ()) -> Calibration:
    """What is asked for; inputs: more files that must stay."""
    from ggufpy.commands.calibrating import Calibration, Target

    methods, most = arguments.method or (BEST,), arguments.calibration_chunks or _CHUNKS
    wanted = arguments.target_bpw, arguments.target_size
    target = Target(*wanted) if any(wanted) else None
    return Calibration(arguments.calibration, methods, most, inputs, target)


def byte_size(text: str) -> int:
    """A number of bytes, as argparse has it; K, M and G are powers of 1000."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not digits.isdecimal() or int(digits) == 0 or (unit and unit not in _UNITS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500M or 2G")
    return int(digits) * _UNITS.get(unit, 1)


def _bpw(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bits from 1 to 16")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
