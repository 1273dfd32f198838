"""Texts that a model is calibrated on: plain ones, and chats as its template writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggufpy.errors import FormatError, TemplateError
from ggufpy.evaluate.perplexity import read_text
from ggufpy.tokenizers import Tokenizer


def tokens_of(
    path: Path, tokenizer: Tokenizer, metadata: Mapping[str, Any], *, parse_special: bool = False
) -> list[int]:
    """The tokens of a text, with BOS where the model wants one; of FILE.jsonl those of all its chats.

    A line of such a file is {"messages": [...]}, or the list. Raises FormatError for lines that are neither,
    and for chats that the template refuses, OSError.
    """
    if path.suffix != ".jsonl":
        return tokenizer.encode(read_text(path), parse_special=parse_special)
    from ggufpy.chat.templates import ChatTemplate
    from ggufpy.generate.completion import encode_prompt

    template = ChatTemplate.from_metadata(metadata)
    tokens = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            chat = template.render(_messages(line), add_generation_prompt=False)
        except (ValueError, TemplateError) as error:
            raise FormatError(f"{path}, line {number}: {error}") from None
        tokens += encode_prompt(tokenizer, chat)
    return tokens


def _messages(line: bytes) -> Any:
    """The messages of a chat; raises ValueError."""
    try:
        chat = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    messages = chat.get("messages") if isinstance(chat, dict) else chat
    if not isinstance(messages, list) or not messages:
        raise ValueError('no chat; a line is {"messages": [...]}, or the list of messages')
    return messages
