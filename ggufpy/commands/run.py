"""`ggufpy run`: chat with a GGUF model in the terminal, answer one prompt, or complete a text."""

from __future__ import annotations

import argparse
import io
import sys

from ggufpy.commands.console import run_command
from ggufpy.commands.run_options import check_options, run_parser
from ggufpy.commands.texts import Texts, read_texts
from ggufpy.errors import GgufpyError


def main(argv: list[str] | None = None) -> int:
    """Run a model and return the exit status."""
    arguments = run_parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    check_options(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
    interactive = sys.stdin.isatty()
    texts = read_texts(arguments, piped=not interactive)
    chats = _chats(arguments, texts, interactive)
    if texts.prompt is None and not chats:
        what = "no text to complete" if arguments.no_conversation else "no message to answer"
        raise GgufpyError(f"{what}: {'' if interactive else 'stdin is empty; '}give one with -p")
    # NumPy, the tokenizers and the engine: only for a good command line.
    from ggufpy.commands.session import Session

    with Session.open(arguments, texts) as session:
        if chats:
            from ggufpy.commands.terminal import talk

            talk(session, texts.prompt, single_turn=arguments.single_turn)
        elif texts.prompt is not None:
            session.complete(texts.prompt) if arguments.no_conversation else session.answer(texts.prompt)
    return 0


def _chats(arguments: argparse.Namespace, texts: Texts, interactive: bool) -> bool:
    """Whether the user types messages."""
    answers_one = arguments.single_turn and texts.prompt is not None
    return interactive and not arguments.no_conversation and not answers_one
