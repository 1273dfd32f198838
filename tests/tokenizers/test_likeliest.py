"""Unigram vocabularies: ids of SentencePiece, of `tokenizers`, and of llama.cpp."""

from __future__ import annotations

import itertools
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from odd_texts import conformance_file, random_texts
from oracle import Oracle, needs_oracle
from sentencepiece import sentencepiece_model_pb2
from tiny_tokenizers import sentencepiece_model
from tokenizers import models

from ggufpy.errors import TokenizerError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.values import Typed, ValueType
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import Tokenizer, load_tokenizer

KEY = "tokenizer.ggml."
NORMALIZER = "ggufpy.tokenizer.normalizer"
CHARSMAP = KEY + "precompiled_charsmap"
SCHEMA: Any = sentencepiece_model_pb2
ODD = ("", " ", "\u2581", "  \u2581 a", "\u0300a", "\ufeffx\x00\x07y", " \u3000 ", "<0x41>", "\ufb01\u2167")


@cache
def unigram_model(rule: str = "nmt_nfkc", *, byte_fallback: bool = False, **options: Any) -> bytes:
    return sentencepiece_model(
        "unigram",
        vocab_size=110 + 256 * byte_fallback,
        normalization_rule_name=rule,
        byte_fallback=byte_fallback,
        **{"remove_extra_whitespaces": True, **options},
    )


def metadata_of(model: bytes) -> dict[str, Any]:
    """What a file says of a SentencePiece model."""
    proto = SCHEMA.ModelProto.FromString(model)
    spec = proto.normalizer_spec
    metadata = {
        "model": "t5",
        "tokens": [piece.piece for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "token_type": [piece.type for piece in proto.pieces],
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_space_prefix": spec.add_dummy_prefix,
        "remove_extra_whitespaces": spec.remove_extra_whitespaces,
        "precompiled_charsmap": list(spec.precompiled_charsmap),
    }
    return {KEY + name: value for name, value in metadata.items()}


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return metadata_of(unigram_model())


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf", "identity"])
def test_ids_are_those_of_sentencepiece(rule: str) -> None:
    for merged, bytes_, prefix in itertools.product((True, False), repeat=3):
        options = {"remove_extra_whitespaces": merged, "add_dummy_prefix": prefix}
        model = unigram_model(rule, byte_fallback=bytes_, **options)
        library = sentencepiece.SentencePieceProcessor(model_proto=model)
        tokenizer = load_tokenizer(metadata_of(model))
        for text in (*random_texts(3, 100), *ODD):
            assert tokenizer.encode(text, add_special=False) == library.encode(text), repr(text)


def test_sums_are_rounded_as_sentencepieces() -> None:
    """Scores of few digits, so that sums are equal, and of equal sums the one found first stays."""
    draw = random.Random(6)
    proto = SCHEMA.ModelProto.FromString(unigram_model("identity"))
    for _ in range(200):
        tokens = dict.fromkeys(["<unk>", "</s>", "\u2581", *"abc"])
        tokens |= dict.fromkeys("".join(draw.choices("abc\u2581", k=draw.randrange(2, 4))) for _ in range(20))
        del proto.pieces[:]
        for id, text in enumerate(tokens):
            proto.pieces.add(piece=text, score=-draw.randrange(1, 60) / 10, type=(2, 3)[id] if id < 2 else 1)
        library = sentencepiece.SentencePieceProcessor(model_proto=(model := proto.SerializeToString()))
        tokenizer = load_tokenizer(metadata_of(model) | {KEY + "eos_token_id": 1})
        for _ in range(20):
            text = "".join(draw.choices("abcd ", k=draw.randrange(1, 60)))
            assert tokenizer.encode(text, add_special=False) == library.encode(text), text


def test_a_described_normalizer_means_tokenizers_with_sums_in_f64() -> None:
    draw = random.Random(5)
    for number in range(100):
        letters = "abc\u2581\u6c34"
        words = ["".join(draw.choices(letters, k=draw.randrange(2, 6))) for _ in range(draw.randrange(40))]
        byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)] if number % 2 else []
        tokens = list(dict.fromkeys(["<unk>", *letters, *words])) + byte_tokens
        scores = [-draw.randrange(1 << 10) / 128 for _ in tokens]
        model = models.Unigram(list(zip(tokens, scores, strict=True)), 0, bool(byte_tokens))
        types = [2, *[1] * (len(tokens) - 1 - len(byte_tokens)), *[6] * len(byte_tokens)]
        keys = {"model": "t5", "tokens": tokens, "scores": scores, "token_type": types, "unknown_token_id": 0}
        described = {NORMALIZER: json.dumps({"type": "Lowercase"})}
        ours = load_tokenizer({KEY + name: value for name, value in keys.items()} | described)
        library = tokenizers.Tokenizer(model)
        library.normalizer = tokenizers.normalizers.Lowercase()
        for _ in range(20):
            text = "".join(draw.choices("abcdA\u2581\u6c34\u8a9e", k=draw.randrange(1, 30)))
            assert ours.encode(text, add_special=False) == library.encode(text).ids, (number, text)


def test_texts_end_with_eos_and_decode_again(metadata: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(metadata)
    ids = tokenizer.encode("  The  dog ")
    assert ids[-1] == tokenizer.eos_id == 2 and tokenizer.bos_id == 1
    assert tokenizer.decode(ids) == b"The dog"
    assert tokenizer.decode([1, *ids]) == b"The dog"
    assert tokenizer.encode("a</s>b", parse_special=True).count(2) == 2


@needs_oracle
def test_defaults_are_llama_cpp_s(tmp_path: Path, metadata: dict[str, Any]) -> None:
    kept = {key: value for key, value in metadata.items() if not key.endswith(("_id", "prefix", "spaces"))}
    charsmap = Typed(kept[CHARSMAP], ValueType.U8)
    write_gguf(tmp_path / "m.gguf", {"general.architecture": "llama", **kept, CHARSMAP: charsmap}, [])
    signed = {CHARSMAP: [byte - 256 if byte > 127 else byte for byte in kept[CHARSMAP]]}
    with Oracle(tmp_path / "m.gguf", vocab_only=True) as oracle:
        for tokenizer in (load_tokenizer(kept), load_tokenizer(kept | signed)):
            for text in (*random_texts(8, 30), *ODD[1:]):
                assert tokenizer.encode(text) == oracle.tokenize(text), repr(text)


@needs_oracle
def test_xlm_roberta_equals_llama_cpp(shared: Path) -> None:
    path = conformance_file(shared, "nomic-bert-moe")
    with GGUFFile.open(path) as file, Oracle(path, vocab_only=True) as oracle:
        tokenizer: Tokenizer = load_tokenizer(file.metadata)
        for number, text in enumerate([*random_texts(9, 150), "a  <mask> b", "<mask>"]):
            flags = {"add_special": number % 2 == 0, "parse_special": number % 3 == 0}
            assert tokenizer.encode(text, **flags) == oracle.tokenize(text, **flags), text
        ids = range(0, tokenizer.n_vocab, 997)
        assert [tokenizer.token_bytes(id) for id in ids] == [oracle.piece(id) for id in ids]


@pytest.mark.parametrize("text", ["a" * 1_000_000, "\u0301" * 500_000, " " * 1_000_000, "\ufdfa" * 50_000])
def test_long_texts(text: str) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=(model := unigram_model()))
    assert load_tokenizer(metadata_of(model)).encode(text, add_special=False) == library.encode(text)


def without(name: str) -> Any:
    return lambda metadata: {key: value for key, value in metadata.items() if key != KEY + name}


def changed(name: str, value: Any) -> Any:
    return lambda metadata: {
        **metadata,
        KEY + name: value(metadata[KEY + name]) if callable(value) else value,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("scores"), "scores: missing"),
        (changed("scores", lambda old: ["a"] * len(old)), "scores: not a list of numbers"),
        (changed("scores", [0.5]), "1 values for"),
        (changed("tokens", []), "no vocabulary"),
        (changed("unknown_token_id", 1.5), "unknown_token_id is 1.5"),
        (
            lambda _: {KEY + "model": "t5", KEY + "tokens": ["a", "b"], KEY + "scores": [0, 0]},
            "names no token",
        ),
        (changed("precompiled_charsmap", "abc"), "precompiled_charsmap: not a list of bytes"),
        (changed("precompiled_charsmap", 7), "not a list of bytes"),
        (changed("precompiled_charsmap", [0.5]), "not a list of bytes"),
        (changed("precompiled_charsmap", [1, 256]), "not a list of bytes"),
        (changed("precompiled_charsmap", [1, 2, 3]), "not SentencePiece's"),
        (changed("precompiled_charsmap", lambda old: old[:1000]), "not SentencePiece's"),
        (
            changed("precompiled_charsmap", lambda old: [*old[:-1], *[65] * 300, 0]),
            "by more than 256 bytes",
        ),
        (changed("remove_extra_whitespaces", 1), "not true or false"),
    ],
)
def test_damage_is_one_line(metadata: dict[str, Any], change: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tokenizer(change(metadata))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
