"""JSON from files that others wrote: whatever is wrong with it becomes one FormatError."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ggufpy.errors import FormatError

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(text: bytes, where: str, *, unique_keys: bool = False) -> dict[str, Any]:
    """Parse a JSON object; `where` begins the message if it is none, or a key that must be unique is not."""
    value = _parsed(text, where, unique_keys=unique_keys)
    if not isinstance(value, dict):
        raise FormatError(f"{where} is not a JSON object; download it again")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Parse the JSON object in a file."""
    return parse_json(path.read_bytes(), str(path))


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Parse the list of JSON objects in a file."""
    value = _parsed(path.read_bytes(), str(path))
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise FormatError(f"{path} is not a list of JSON objects; download it again")
    return value


def _parsed(text: bytes, where: str, *, unique_keys: bool = False) -> Any:
    try:
        value = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique if unique_keys else None)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half of a character is none
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{where} is not valid JSON ({exc}); download it again") from exc
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{name!r:.80} is there twice")
        result[name] = value
    return result
