"""Texts that tokenizers disagree about, and llama.cpp's vocabularies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
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


# First and last characters of stretches of Unicode: scripts, marks, formats, private and unassigned ones.
STRETCHES = (
    *(
        "\x00\x1f",
        " ~",
        "\x7f\x9f",
        "\u00a0\u024f",
        "\u0250\u036f",
        "\u0370\u058f",
        "\u0590\u06ff",
        "\u0900\u0dff",
    ),
    *("\u0e00\u0fff", "\u1000\u11ff", "\u1680\u180f", "\u1e00\u1fff", "\u2000\u206f", "\u2070\u218f"),
    *(
        "\u2190\u2bff",
        "\u3000\u30ff",
        "\u3100\u33ff",
        "\u4e00\u9fff",
        "\uac00\ud7ff",
        "\ue000\ue00f",
        "\uf900\ufaff",
    ),
    *("\ufb00\ufdff", "\ufe00\uffff", "\U00010000\U000103ff", "\U0001d400\U0001d7ff", "\U0001f100\U0001faff"),
    *("\U00020000\U00020fff", "\U00040000\U000400ff", "\U000e0000\U000e01ef", "\U0010fff0\U0010ffff"),
)


def any_texts(seed: int, count: int, tokens: Sequence[str] = ()) -> list[str]:
    """Anything: characters of one stretch or of all, runs of one, white space, fragments, and of `tokens`."""
    choose = random.Random(seed)

    def character() -> str:
        first, last = map(ord, choose.choice(STRETCHES))
        return chr(choose.randint(first, last))

    def alike() -> str:
        first, last = map(ord, choose.choice(STRETCHES))
        return "".join(chr(choose.randint(first, last)) for _ in range(choose.randrange(1, 12)))

    def piece() -> str:
        token = choose.choice(tokens) if tokens else "<s>"
        start = choose.randrange(len(token))
        return choose.choice((token, token[start:], token[:start], " " + token, token + "\n"))

    def run() -> str:
        kind: str = choose.choice((character(), *"a 1\n!=\u6c34"))
        return kind * choose.choice((2, 3, 7, 40, 400))

    kinds: tuple[Callable[[], str], ...] = (
        lambda: choose.choice(FRAGMENTS),
        lambda: choose.choice(SPACES),
        lambda: "".join(choose.choices(" \t\n\r\u00a0\u2003\u3000", k=choose.randrange(1, 6))),
        lambda: "".join(character() for _ in range(choose.randrange(1, 6))),
        alike,
        piece,
        run,
    )
    return ["".join(choose.choice(kinds)() for _ in range(choose.randrange(1, 16))) for _ in range(count)]
