"""`ggufpy run`: chat with a GGUF model in the terminal, answer one prompt, or complete a text."""

from __future__ import annotations

import argparse
import io
import sys

from ggufpy.commands.console import run_command
from ggufpy.commands.run_options import check_options, check_texts, run_parser
from ggufpy.errors import GgufpyError

DEFAULT_PROMPT = "What is a river?"


def main(argv: list[str] | None = None) -> int:
    """Run a model and return the exit status."""
    arguments = run_parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    check_options(arguments)
    check_texts(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
    interactive = sys.stdin is not None and sys.stdin.isatty()
    if arguments.no_conversation and interactive and arguments.prompt is None:
        raise GgufpyError("-no-cnv: nothing to complete; give a text with -p")
    first = arguments.prompt if interactive or arguments.prompt is not None else _piped()
    # NumPy, the tokenizers and the engine: only for a good command line.
    from ggufpy.commands.session import Session

    with Session.open(arguments) as session:
        if arguments.no_conversation:
            session.complete(first)
        elif interactive:
            from ggufpy.commands.terminal import talk

            talk(session, first)
        else:
            session.answer(first)
    return 0


def _piped() -> str:
    """What stdin holds, or a greeting if that is nothing."""
    data = b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8").removesuffix("\n")  # other white space may matter, as in code
    except UnicodeDecodeError as error:
        raise GgufpyError(
            f"stdin: byte {data[error.start]:#x} at {error.start} is not UTF-8; convert the text with iconv"
        ) from None
    return text if text.strip() else DEFAULT_PROMPT
