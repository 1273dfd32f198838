"""Texts that tokenizers find hard: a mix of scripts and emoji, runs of spaces, parts of special tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_RANGES = (
    *((0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF)),
    *((0xE00, 0xEFF), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x2BFF)),
    *((0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF)),
    *((0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x10300, 0x1034F), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF)),
    *((0x20000, 0x2A6DF), (0xE0100, 0xE01EF)),
)
_PIECES = (
    *(
        "the ",
        "The river",
        "don't",
        "I'LL",
        "HE'S",
        "we've",
        "camelCase",
        "HTTPServer",
        "x_1",
        "1234567",
        "3.14",
    ),
    *("Größe", "naïve", "e\u0301", "n\u0303", "水", "日本語", "Привет", "مرحبا", "नमस्ते", "สวัสดี", "한국어"),
    *("😀", "👨‍👩‍👧", "🇩🇪", "❤️", "👍🏽", "--", "...", "/**", "=>", "</", "#", "\\n", "<0x0A>", "▁", "Ġ", "Ċ"),
    *("\x00", "\x7f", "\u00a0", "\u200b", "\ufeff", "\u2028", "\u3000", "\x85", "\ufffd"),
)
_WHITE = (" ", "\n", "\t", "\r\n", "\r")


def random_texts(count: int, special: Sequence[str], seed: int = 0) -> Iterator[str]:
    """Always the same texts; special: texts of tokens, whole and in part."""
    draw = random.Random(seed)
    for _ in range(count):
        yield "".join(_part(draw, special) for _ in range(draw.randrange(1, 14)))


def _part(draw: random.Random, special: Sequence[str]) -> str:
    kind = draw.random()
    if kind < 0.35:
        return draw.choice(_PIECES)
    if kind < 0.55:
        return draw.choice(_WHITE) * draw.choice((1, 1, 1, 2, 3, 4, 7, 16, 40))
    if kind < 0.65 and special:
        text = draw.choice(special)
        start = draw.choice((0, 0, 1, 2))
        return text[start : draw.choice((len(text), len(text), len(text) - 1, start + 1))]
    first, last = draw.choice(_RANGES)
    letters = (chr(draw.randint(first, last)) for _ in range(draw.randrange(1, 6)))
    return draw.choice(("", "", " ")) + "".join(letters)
