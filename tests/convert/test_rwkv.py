"""RWKV's vocabulary: literals of Python, and always the longest token that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import converted, write_checkpoint

from ggufpy.convert.vocabulary.reading import read_vocabulary
from ggufpy.errors import FormatError
from ggufpy.tokenizers import Tokenizer, load_tokenizer

KEY = "tokenizer.ggml."
WORDS = (
    "\n\n",
    "the",
    " the",
    "then",
    "quick",
    "\u6587",
    "\u6587\u7ae0",
    "'\"",
    "\\",
    "\x00\x01",
    "aaaa",
    "aa",
)
BYTES = [bytes([byte]) for byte in range(256)]
TOKENS: dict[bytes, int] = {
    token: id
    for id, token in enumerate(dict.fromkeys([*BYTES, *(word.encode() for word in WORDS), b"\xe6\x96"]), 1)
}


def literal(token: bytes) -> str:
    """Text where the bytes are one, as in the real file."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


def vocabulary(tokens: dict[bytes, int]) -> str:
    return "".join(f"{id} {literal(token)} {len(token)}\n" for token, id in tokens.items())


def write(folder: Path, text: str) -> Path:
    write_checkpoint(folder, None)
    (folder / "rwkv_vocab_v20230424.txt").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return converted(write(tmp_path_factory.mktemp("rwkv"), vocabulary(TOKENS)), {"vocab_size": 300})


@pytest.fixture(scope="module")
def ours(metadata: dict[str, Any]) -> Tokenizer:
    return load_tokenizer(metadata)


def longest(text: bytes) -> list[int]:
    if not text:
        return []
    token = max((token for token in TOKENS if text.startswith(token)), key=len)
    return [TOKENS[token], *longest(text[len(token) :])]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, *"abthq \n\t\x7f\u00fc\u7ae0\U0001f600"]), max_size=20).map("".join))
def test_ids(ours: Tokenizer, text: str) -> None:
    assert ours.encode(text) == longest(text.encode())
    assert ours.decode(ours.encode(text)) == text.encode()


def test_keys_are_llama_cpps(metadata: dict[str, Any], ours: Tokenizer) -> None:
    assert list(metadata)[:3] == [KEY + key for key in ("model", "tokens", "token_type")]
    tokens = metadata[KEY + "tokens"]
    assert (
        tokens[:4] == ["<s>", "\\x00", "\\x01", "\\x02"] and tokens[-1] == "[PAD299]" and len(tokens) == 300
    )
    assert tokens[TOKENS[b"\n\n"]] == "\\n\\n" and tokens[TOKENS["\u6587".encode()]] == "\\xe6\\x96\\x87"
    assert metadata[KEY + "token_type"][:2] == [3, 1] and metadata[KEY + "token_type"][-1] == 5
    assert {part: metadata[f"{KEY}{part}_token_id"] for part in ("bos", "eos", "eot")} == {
        "bos": 0,
        "eos": 0,
        "eot": TOKENS[b"\n\n"],
    }
    assert ours.eog_ids == {0, TOKENS[b"\n\n"]} and not ours.add_bos


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("999 'a'", "line 269, b\"999 'a'\", is not an id, a text and its length; download it again"),
        ("999 'zz' 3", "is not an id, a text and its length"),
        ("x 'zz' 2", "is not an id, a text and its length"),
        ("-1 'zz' 2", "is not an id, a text and its length"),
        ("999 zz 2", "is not an id, a text and its length"),
        ("999 open('x') 2", "is not an id, a text and its length"),
        ("999 '\\q' 2", "is not an id, a text and its length"),
        (f"999 '{'a' * 5000}' 5000", "is not an id, a text and its length"),
        ("999 'aa' 2", "line 269, .*, is there twice"),
        ("1 'zz' 2", "line 269, .*, is there twice"),
    ],
)
def test_broken_files(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_vocabulary(write(tmp_path, vocabulary(TOKENS) + line + "\n"), {})


def test_a_byte_without_a_token(tmp_path: Path) -> None:
    rest = {token: id for token, id in TOKENS.items() if token != b"\x07"}
    with pytest.raises(FormatError, match="no token for byte 0x07"):
        read_vocabulary(write(tmp_path, vocabulary(rest)), {})
