"""The model card: the YAML block at the top of a checkpoint's README.md, as far as metadata needs it.

Top-level keys with a scalar, a list of scalars in brackets or a list of scalars on lines of their own are
read; everything else that YAML can say is passed over.
"""

from __future__ import annotations

import re
from pathlib import Path

_KEY = re.compile(r"([A-Za-z_][\w-]*):(?:[ \t]+(.*))?")
_ITEM = re.compile(r"\s*-\s+(.*)")


def read_model_card(folder: Path) -> dict[str, str | list[str]]:
    """The card's keys; empty without a card."""
    path = folder / "README.md"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    card: dict[str, str | list[str]] = {}
    for line, indented in _top_level(lines[1:]):
        match = _KEY.fullmatch(line)
        if not match:
            continue
        value = _value((match[2] or "").strip(), indented)
        if value:
            card[match[1]] = value
    return card


def _top_level(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Each top-level line up to the closing ---, with the lines that belong to it."""
    result: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.rstrip() == "---":
            return result
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t-" and result:
            result[-1][1].append(line)
        else:
            result.append((line.rstrip(), []))
    return []


def _value(text: str, indented: list[str]) -> str | list[str] | None:
    if text.startswith("[") and text.endswith("]") and not indented:
        return _scalars(text[1:-1].split(",")) if text[1:-1].strip() else None
    if not text:
        items = [_ITEM.fullmatch(line) for line in indented]
        return _scalars([item[1] for item in items if item]) if all(items) else None
    return _scalar(text) if not indented else None


def _scalars(texts: list[str]) -> list[str] | None:
    scalars = [_scalar(text) for text in texts]
    return [scalar for scalar in scalars if scalar] if None not in scalars else None


def _scalar(text: str) -> str | None:
    """A plain or quoted scalar without its quotes; None for null and for what is none."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    text = re.split(r"(?<=\s)#", text, maxsplit=1)[0].rstrip()
    is_plain = text and text[0] not in "[]{}&*!|>%@`'\"" and ": " not in text and not text.endswith(":")
    return text if is_plain and text not in ("null", "~") else None
