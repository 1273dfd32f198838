"""BPE without an alphabet of bytes: llama.cpp's ids, whichever name a file has."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from oracle import Oracle, needs_oracle
from tokenizers import models, normalizers

from ggufpy.errors import TokenizerError
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.special import NORMALIZER_KEY, PRE_TOKENIZER_KEY

KEY = "tokenizer.ggml."
LETTERS = "\u2581ab!1\u00e9\n\t\r\u6c34\u0120"
NAMES = ("gemma4", "granite-embed-multi-311m", "sarvam-moe", "mmbert", "whitespace")


def vocabulary(draw: random.Random, byte_tokens: bool = True, /, **keys: Any) -> dict[str, Any]:
    """Merges of these letters in no order."""
    tokens = dict.fromkeys(LETTERS)
    merges = []
    for _ in range(60):
        left, right = draw.choice(list(tokens)), draw.choice(list(tokens))
        tokens[left + right] = None
        merges.append(f"{left} {right}")
    draw.shuffle(merges)
    texts = ["<unk>", "<s>", "</s>", *tokens]
    types = [2, 3, 3, *[1] * len(tokens)]
    if byte_tokens:
        texts += [f"<0x{byte:02X}>" for byte in range(256)]
        types += [6] * 256
    metadata = {"tokens": texts, "token_type": types, "merges": merges, "scores": [0.0] * len(texts)}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return {KEY + name: value for name, value in {**metadata, **ids, **keys}.items()}


def texts(draw: random.Random, *, spaces_apart: bool) -> list[str]:
    """spaces_apart: no two spaces meet, nor a space other white space; llama.cpp aborts at these."""
    letters = "ab!1\u00e9\u6c34\u4f60\u2581" if spaces_apart else LETTERS + "   \u4f60\u0301\u00a0"
    many = ["".join(draw.choices(letters, k=draw.randrange(1, 30))) for _ in range(60)]
    return (
        [" ".join(many[i : i + 3]) for i in range(len(many))] if spaces_apart else [*many, "", " ", "</s> a"]
    )


@needs_oracle
@pytest.mark.parametrize(("kind", "pre"), [("gemma4", None), *(("gpt2", name) for name in NAMES)])
def test_ids_are_llama_cpp_s(tmp_path: Path, kind: str, pre: str | None) -> None:
    draw = random.Random(4)
    for number in range(12):
        metadata = vocabulary(draw, model=kind, **({"pre": pre} if pre else {}))
        path = tmp_path / f"{number}.gguf"
        write_gguf(path, {"general.architecture": "llama", **metadata}, [])
        tokenizer = load_tokenizer(metadata)
        with Oracle(path, vocab_only=True) as oracle:
            for text in texts(draw, spaces_apart=pre == "whitespace"):
                for special in (False, True):
                    want = oracle.tokenize(text, parse_special=special)
                    assert tokenizer.encode(text, parse_special=special) == want, repr(text)
            if pre == "whitespace":  # whose characters llama.cpp reads as bytes, as if there were an alphabet
                continue
            ids = range(tokenizer.n_vocab)
            assert [tokenizer.token_bytes(id) for id in ids] == [oracle.piece(id) for id in ids]


@pytest.mark.parametrize("byte_tokens", [False, True])
def test_what_is_no_token_is_the_checkpoints_unknown_token(byte_tokens: bool) -> None:
    """llama.cpp leaves it out."""
    draw = random.Random(5)
    metadata = vocabulary(draw, byte_tokens, model="gemma4")
    ids = {text: id for id, text in enumerate(metadata[KEY + "tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata[KEY + "merges"]]
    options = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": byte_tokens}
    library = tokenizers.Tokenizer(models.BPE(ids, merges, **options))
    library.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer = load_tokenizer(metadata)
    for text in ("\u4f60\u597da", "a\u4f60 \u597d", " \ud55c\n\ud55c"):
        assert tokenizer.encode(text, add_special=False) == library.encode(text).ids


def test_a_described_normalizer_and_pre_tokenizer_count() -> None:
    metadata = vocabulary(random.Random(6), model="gemma4")
    metadata |= {KEY + "tokens": ["<unk>", "<s>", "</s>", "a", "b", "ab"], KEY + "merges": ["a b"]}
    metadata |= {KEY + "token_type": [2, 3, 3, 1, 1, 1], NORMALIZER_KEY: json.dumps({"type": "Lowercase"})}
    assert load_tokenizer(metadata).encode("AB", add_special=False) == [5]
    split = {"type": "Split", "pattern": {"String": "b"}, "behavior": "Isolated", "invert": False}
    metadata[PRE_TOKENIZER_KEY] = json.dumps(split)
    assert load_tokenizer(metadata).encode("AB", add_special=False) == [3, 4]


def test_gemma_4_has_a_bos_token_whatever_its_file_says() -> None:
    metadata = vocabulary(random.Random(7), model="gemma4", add_bos_token=False)
    assert load_tokenizer(metadata).encode("") == [1]
    assert not load_tokenizer({**metadata, KEY + "model": "gpt2", KEY + "pre": "sarvam-moe"}).add_bos


def test_texts_come_back() -> None:
    draw = random.Random(8)
    tokenizer = load_tokenizer(vocabulary(draw, model="gemma4", add_space_prefix=True))
    for text in [*texts(draw, spaces_apart=False), "a" * 1_000_000]:
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ").encode()


@pytest.mark.parametrize("kind", ["gemma4", "gpt2"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("merges", None, "merges: missing"),
        ("merges", ["a\u4f60"], "not two parts"),
        ("merges", ["a \u4f60"], "which is not a token"),
        ("tokens", [], "no vocabulary"),
        ("bos_token_id", 10**6, "not one of the"),
        ("unknown_token_id", "x", "not a token's id"),
    ],
)
def test_damage_is_one_line(kind: str, name: str, value: Any, message: str) -> None:
    metadata = vocabulary(random.Random(9), model=kind, pre="gemma4") | {KEY + name: value}
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tokenizer(metadata)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
