"""The chat in the terminal: a prompt with history and editing, and its commands."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output

from ggufpy.commands.console import Ended
from ggufpy.commands.session import Session, note, show
from ggufpy.commands.shipped import cache_folder
from ggufpy.errors import GgufpyError

if TYPE_CHECKING:
    from ggufpy.chat.chat import Chat

HELP = """/help   this list
/clear  forget the conversation
/regen  answer the last message once more
/exit   leave (also exit, quit, Ctrl-D, or Ctrl-C twice)
A message of several lines stands between two \"\"\", or has a \\ at the end of each line but the last.
Ctrl-C stops an answer."""

_COMMAND = re.compile(r"/([a-zA-Z]+|\?)(\s|$)")  # and not a path
_QUOTES = '"""'


def talk(session: Session, first: str | None = None, *, single_turn: bool = False) -> None:
    """Chat until the user leaves, or until a message is answered.

    first: the first message, if it is already known.
    """
    chat = session.chat()
    note(f"{session.name}, context {session.engine.n_ctx}; /help lists the commands")
    if first is not None:
        _say(session, chat, chat.ask(first))
    for line in _lines():
        if line in ("/exit", "exit", "quit"):
            return
        _obey(session, chat, line)
        if single_turn and chat.turns:
            return


def _obey(session: Session, chat: Chat, line: str) -> None:
    """Do what one line asks for: a command, or a message."""
    if line == "/help":
        note(HELP)
    elif line == "/clear":
        chat.clear()
        note("the conversation is forgotten")
    elif line == "/regen":
        if chat.turns:
            _say(session, chat, chat.regenerate())
        else:
            note("nothing to answer yet")
    elif _COMMAND.match(line):
        note(f"no command {line.split()[0]}; /help lists them")
    elif line:
        _say(session, chat, chat.ask(line))


def _say(session: Session, chat: Chat, pieces: Generator[str, None, None]) -> None:
    """Show an answer; Ctrl-C and errors end it, and the chat goes on."""
    try:
        show(pieces)
    except Ended:
        raise
    except KeyboardInterrupt:
        note("stopped")
    except GgufpyError as error:
        note(f"error: {error}")
        return
    session.report_chat(chat)


def _lines() -> Iterator[str]:
    """What the user types, until Ctrl-D or Ctrl-C twice."""
    # A redirected stdout gets the answers only; the prompt goes where the user can see it.
    prompt: PromptSession[str] = PromptSession(
        history=_history(), output=create_output(always_prefer_tty=True)
    )
    interrupted = False
    while True:
        try:
            line = _message(prompt)
        except EOFError:
            return
        except Ended:
            raise
        except KeyboardInterrupt:
            if interrupted:
                return
            interrupted = True
            note("Ctrl-C once more, or Ctrl-D, to leave")
            continue
        interrupted = False
        yield line


def _message(prompt: PromptSession[str]) -> str:
    """One message; its further lines are asked for. Raises EOFError and KeyboardInterrupt."""
    line = prompt.prompt("> ").strip()
    if line.startswith(_QUOTES):
        text = line.removeprefix(_QUOTES)
        while not text.rstrip().endswith(_QUOTES):
            text += "\n" + prompt.prompt("| ")
        return text.rstrip().removesuffix(_QUOTES).strip("\n")
    while line.endswith("\\"):
        line = line.removesuffix("\\") + "\n" + prompt.prompt("| ").rstrip()
    return line


def _history() -> History:
    path = cache_folder() / "history"
    try:
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
