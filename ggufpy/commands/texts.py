"""The texts that commands are given: on the command line, in files, on stdin."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ggufpy.errors import GgufpyError

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([nrt'\"\\]))")
_MEANS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True)
class Texts:
    """What to answer or complete, the system message, what ends an answer, a template; None: not given.

    template: Jinja, or the name of one in the model's file.
    """

    prompt: str | None
    system: str | None
    stop: list[str]
    template: str | None


def read_texts(arguments: argparse.Namespace, *, piped: bool) -> Texts:
    """The texts that the command line names, and what stdin holds where it is piped.

    Raises GgufpyError for what is not UTF-8 and for an empty file, OSError for a file that cannot be read.
    """
    escape = arguments.escape
    prompt = text_of("-p", arguments.prompt, arguments.file, escape=escape)
    if arguments.file and not prompt:
        raise GgufpyError(f"{arguments.file} is empty; give a prompt with -p, or another file")
    return Texts(
        prompt=_joined(decoded("stdin", sys.stdin.buffer.read()), prompt) if piped else prompt,
        system=text_of("-sys", arguments.system_prompt, arguments.system_prompt_file),
        stop=[unescaped("-r", text, escape=escape) for text in arguments.reverse_prompt],
        template=text_of("--chat-template", arguments.chat_template, arguments.chat_template_file),
    )


def _joined(held: str, prompt: str | None) -> str | None:
    """What stdin holds, then the prompt, in the order of llm and ollama, an empty line between them."""
    if not held.strip():
        return prompt
    return f"{held}\n\n{prompt}" if prompt else held


def text_of(option: str, text: str | None, path: Path | None, *, escape: bool = False) -> str | None:
    """The option's text or, as it is, that of the file."""
    if path is not None:
        return decoded(str(path), path.read_bytes())
    return None if text is None else unescaped(option, text, escape=escape)


def unescaped(option: str, text: str, *, escape: bool) -> str:
    r"""Text of the command line; escape: \n, \r, \t, \', \", \\ and \xHH (bytes of UTF-8) are replaced.

    Source: llama.cpp common/common.cpp, string_process_escapes.
    """
    return utf8_text(option, _ESCAPE.sub(_meant, text.encode())) if escape else text


def _meant(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode()) if found[1] else _MEANS.get(found[2], found[2])


def decoded(name: str, data: bytes) -> str:
    """Text without its last line end; other white space may matter, as in code."""
    return re.sub(r"\r?\n\Z", "", utf8_text(name, data))


def utf8_text(name: str, data: bytes) -> str:
    """All of it; raises GgufpyError that says where it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"byte {data[error.start]:#x} at {error.start} is not UTF-8; convert the text with iconv"
        raise GgufpyError(f"{name}: {problem}") from None
