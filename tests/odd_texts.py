"""Texts that tokenizers disagree about, and llama.cpp's vocabularies."""

from __future__ import annotations

import random
from pathlib import Path

FRAGMENTS = (
    *(
        "Hello",
        "world",
        "I'm",
        "I'M",
        "don't",
        "they've",
        "'s",
        "'S",
        "camelCase",
        "HTTPServer",
        "foo_bar",
        "$x",
    ),
    *(
        "123",
        "1",
        "1234",
        "12345678",
        "3.14",
        "def f(x):",
        "!=",
        "==",
        "//",
        "...",
        "!?",
        "\u2026",
        "\uff0c",
        ", ",
    ),
    *(
        "\u4f60\u597d",
        "\u65e5\u672c",
        "\u30ab\u30bf",
        "\ud55c\uad6d\uc5b4",
        "\u0e2a\u0e27\u0e31",
        "\u0928\u092e\u0938\u094d",
    ),
    *("\u041f\u0440", "\u00c0\u00c9\u00ee", "e\u0301", "\ufb01", "\u2460", "\u2167", "\u00bd", "\u200b"),
    *("\U0001f999", "\U0001f468\u200d\U0001f469", "\u05e9\u05dc\u05d5\u05dd", "\u0661\u0662\u0663"),
    *(
        "</s>",
        "<s>",
        "<|im_end|>",
        "`",
        "^",
        "~",
        "|",
        "+",
        "<",
        ">",
        "\\",
        '"',
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "#",
    ),
)
SPACES = ("", "", " ", " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\x00")


def random_texts(seed: int, count: int) -> list[str]:
    choose = random.Random(seed)

    def text() -> str:
        parts = [choose.choice(FRAGMENTS) + choose.choice(SPACES) for _ in range(choose.randrange(1, 20))]
        return "".join(parts)

    return [text() for _ in range(count)]


def conformance_file(shared: Path, name: str) -> Path:
    return shared / "conformance" / "vocab" / f"ggml-vocab-{name}.gguf"
