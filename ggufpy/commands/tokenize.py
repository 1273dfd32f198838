"""`ggufpy tokenize`: the tokens of a text, and the proof that they are the right ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ggufpy.commands.console import run_command, visible
from ggufpy.commands.llama_flags import add_flags_without_effect, remedies
from ggufpy.commands.parser import Parser, utf8
from ggufpy.commands.texts import unescaped, utf8_text
from ggufpy.errors import FormatError

if TYPE_CHECKING:
    from ggufpy.convert.vocabulary.check import Comparison
    from ggufpy.gguf.reader import GGUFFile

_EPILOG = """Of the file only the vocabulary is read. Options and output are llama-tokenize's; the texts of -f
and --stdin are taken as they are. --verify encodes some hundred texts, and each line of the text given here,
with both tokenizers, and exits with status 1 if they differ."""

_PRINTING = ("--ids", "--no-bos", "--no-parse-special", "--show-count")


def main(argv: list[str] | None = None) -> int:
    """Print tokens, or how many texts agree, and return the exit status."""
    parser = Parser(
        prog="ggufpy tokenize",
        description="Cut a text into a model's tokens.",
        epilog=_EPILOG,
        remedies=remedies(),
    )
    option = parser.add_argument
    option("-m", "--model", type=Path, required=True, metavar="FILE", help="a GGUF file")
    text = parser.add_mutually_exclusive_group().add_argument
    text("-p", "--prompt", type=utf8, metavar="TEXT", help="the text")
    text("-f", "--file", type=Path, metavar="FILE", help="the text, from a file")
    text("--stdin", action="store_true", help="the text, from stdin")
    option("--ids", action="store_true", help="print ids only, as a list: [1, 2, 3]")
    option("--no-bos", action="store_true", help="add no tokens in front of the text and behind it")
    option("--no-parse-special", action="store_true", help="texts of control tokens are ordinary text")
    option("--no-escape", action="store_true", help=r"take \n, \t, \\, \xHH, ... in -p as they are")
    option("--show-count", action="store_true", help="print how many tokens there are, too")
    verify = "a Hugging Face checkpoint with whose tokenizer the file's is compared"
    option("--verify", type=Path, metavar="CHECKPOINT", help=verify)
    add_flags_without_effect(parser)
    arguments = parser.parse_args(argv)
    if arguments.verify:
        given = (name for name in _PRINTING if getattr(arguments, name[2:].replace("-", "_")))
        if name := next(given, None):
            parser.error(f"{name}: is about printing tokens, which --verify does not")
    elif arguments.prompt is None and arguments.file is None and not arguments.stdin:
        parser.error("no text: give one with -p, -f or --stdin")
    return run_command(lambda: _tokenize(arguments))


def _tokenize(arguments: argparse.Namespace) -> int:
    text = _text(arguments)
    # NumPy and the tokenizers: only for a good command line.
    from ggufpy.gguf.reader import GGUFFile
    from ggufpy.tokenizers import load_tokenizer

    with GGUFFile.open(arguments.model) as file:
        tokenizer = load_tokenizer(file.metadata)
        if arguments.verify:
            return _verify(file, arguments.verify, [line for line in (text or "").split("\n") if line])
    ids = tokenizer.encode(
        text or "", add_special=not arguments.no_bos, parse_special=not arguments.no_parse_special
    )
    if arguments.ids:
        print(ids)
    else:
        for id in ids:
            _print_line(f"{id:6} -> '", tokenizer.token_bytes(id, special=True), "'")
    if arguments.show_count:
        print(f"Total number of tokens: {len(ids)}")
    return 0


def _text(arguments: argparse.Namespace) -> str | None:
    if arguments.stdin:
        return utf8_text("stdin", sys.stdin.buffer.read())
    if arguments.file is not None:
        return utf8_text(str(arguments.file), arguments.file.read_bytes())
    if arguments.prompt is None:
        return None
    return unescaped("-p", arguments.prompt, escape=not arguments.no_escape)


def _print_line(before: str, piece: bytes, behind: str) -> None:
    """A token may be a part of a character: its bytes leave as they are, as llama-tokenize's do."""
    print(before + visible(piece.decode("utf-8", "surrogateescape"), sys.stdout) + behind)


def _verify(file: GGUFFile, folder: Path, lines: list[str]) -> int:
    from ggufpy.convert.vocabulary.check import comparisons

    if not folder.is_dir():
        raise FormatError(f"{folder}: no such folder; name the one of a checkpoint")
    n_texts, different = 0, []
    for each in comparisons(folder, dict(file.metadata), lines):
        n_texts += 1
        if each.found.ids != each.wanted.ids:
            different.append(each)
    print(f"{n_texts - len(different)} of {n_texts} texts agree")
    if different:
        print(_described(different[0]))
    return 1 if different else 0


def _described(difference: Comparison) -> str:
    """A line for the text, and two for each tokenizer."""
    lines = [f"first difference: {difference.text!r}"]
    for name, found in (("checkpoint", difference.wanted), ("file", difference.found)):
        lines += [f"{name}: {found.ids}", "  " + " ".join(map(repr, found.pieces))]
    return "\n".join(lines)
