"""Random texts on which a converted vocabulary must do what the checkpoint's tokenizer does."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_tokenizers import SENTENCES, SPECIALS
from tokenizers import Tokenizer

from ggufpy.tokenizers import load_tokenizer

_PARTS = (
    *(word for sentence in SENTENCES for word in sentence.split(" ")[:6]),
    *(" ", "  ", "   ", "\n", "\n\n", "\t", "\u00a0", "\u3000", "\u2581", "\u2581\u2581"),
    *("1234567", "\u0661\u0662", "e\u0301", "a\u0323\u030a", "\u00e9", "\u2126", "\ufb01", "\u00bd"),
    *(
        "\u1112\u1161\u11ab",
        "\uff71\uff9e",
        "\U0001f999",
        "\U0001f468\u200d\U0001f469",
        "\U000e0001",
        "\u0378",
    ),
    *("don't", "IT'S", "a_b", "...", "<", ">", "<|im", "_start|>", "foo", "<table>", *SPECIALS),
)


def assert_exact(folder: Path, metadata: Mapping[str, Any]) -> None:
    """The ids of texts, of which added tokens are parts, are those of the tokenizer.json in `folder`."""
    ours, theirs = load_tokenizer(metadata), Tokenizer.from_file(str(folder / "tokenizer.json"))
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices(_PARTS, k=draw.randrange(1, 9)))
        for special in (True, False):
            ids = theirs.encode(text, add_special_tokens=special).ids
            assert ours.encode(text, add_special=special, parse_special=True) == ids, repr(text)
