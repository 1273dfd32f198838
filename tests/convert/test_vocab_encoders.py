"""Unigram and WordPiece tokenizer.json, in the forms of T5, XLM-RoBERTa, ALBERT and kinds of BERT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from encoder_jsons import BERT, FORMS, NAMES, template, unigram, word_pieces
from tiny_tokenizers import converted, write_checkpoint
from vocabularies import assert_exact

from ggufpy.convert.vocabulary.differences import differences
from ggufpy.convert.vocabulary.reading import read_vocabulary
from ggufpy.errors import UnsupportedModelError

KEY, OWN = "tokenizer.ggml.", "ggufpy.tokenizer."
UNKNOWN, CONTROL, BYTE = 2, 3, 6


@pytest.mark.parametrize("bytes_", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_unigram(tmp_path: Path, form: str, bytes_: bool) -> None:
    normalizer, pre_tokenizer, prefix, merged = FORMS[form]
    tokenizer = unigram(form, bytes_=bytes_)
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert [metadata[KEY + key] for key in ("model", "pre")] == ["t5", "default"]
    assert [metadata[KEY + key] for key in ("add_space_prefix", "remove_extra_whitespaces")] == [
        prefix,
        merged,
    ]
    assert (KEY + "precompiled_charsmap" in metadata) == ("MAP" in json.dumps(normalizer))
    assert metadata[KEY + "scores"][:-1] == [score for _, score in tokenizer["model"]["vocab"]]
    assert metadata[KEY + "token_type"][:4] == [CONTROL, CONTROL, UNKNOWN, CONTROL]
    assert metadata[KEY + "token_type"].count(BYTE) == 256 * bytes_
    parts = [metadata[f"{KEY}{part}_token_id"] for part in ("bos", "eos", "unknown", "padding", "mask")]
    assert parts == [3, 1, 2, 0, len(tokenizer["model"]["vocab"])]
    assert (metadata[KEY + "add_bos_token"], metadata[KEY + "add_eos_token"]) == (True, True)
    assert (
        json.loads(metadata[OWN + "pre_tokenizer"])["type"] == (pre_tokenizer or {"type": "Sequence"})["type"]
    )
    assert "cut texts as SentencePiece does" in differences(metadata)[0]
    assert_exact(folder, metadata)


def test_unigram_that_adds_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, {**unigram("T5"), "post_processor": None}, NAMES)
    metadata = converted(folder)
    assert (metadata[KEY + "add_bos_token"], metadata[KEY + "add_eos_token"]) == (False, False)
    assert_exact(folder, metadata)


def test_unigram_without_an_unknown_token_is_refused(tmp_path: Path) -> None:
    tokenizer = unigram("T5")
    tokenizer["model"]["unk_id"] = None
    with pytest.raises(UnsupportedModelError, match="unigram without unk_id"):
        read_vocabulary(write_checkpoint(tmp_path, tokenizer, NAMES), {})


LOWER, ACCENTS = KEY + "normalizer.lowercase", KEY + "normalizer.strip_accents"
NORMALIZER, CUTTING = OWN + "normalizer", OWN + "pre_tokenizer"


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, {}),
        ({"normalizer": {**BERT, "strip_accents": True}}, {}),
        ({"normalizer": {**BERT, "strip_accents": False}}, {ACCENTS: False}),
        ({"normalizer": {**BERT, "strip_accents": None, "lowercase": False}}, {LOWER: False}),
        ({"normalizer": {**BERT, "strip_accents": True, "lowercase": False}}, {LOWER: False, ACCENTS: True}),
        (
            {"normalizer": {**BERT, "strip_accents": None, "clean_text": False}},
            {NORMALIZER: {**BERT, "strip_accents": None, "clean_text": False}},
        ),
        ({"normalizer": None}, {NORMALIZER: {"type": "Sequence", "normalizers": []}}),
        ({"normalizer": {"type": "NFKC"}}, {NORMALIZER: {"type": "NFKC"}}),
        ({"pre_tokenizer": {"type": "Whitespace"}}, {CUTTING: {"type": "Whitespace"}}),
        ({"pre_tokenizer": None}, {CUTTING: {"type": "Sequence", "pretokenizers": []}}),
        ({"post_processor": None}, {}),
    ],
)
def test_word_pieces(tmp_path: Path, changes: dict[str, Any], keys: dict[str, Any]) -> None:
    tokenizer = {**word_pieces(), **changes}
    folder = write_checkpoint(tmp_path, tokenizer)
    metadata = converted(folder)
    assert metadata[KEY + "bos_token_id"] == metadata[KEY + "cls_token_id"] == 2
    own = {key: metadata[key] for key in metadata if key.startswith((OWN, KEY + "normalizer."))}
    assert {key: json.loads(text) if isinstance(text, str) else text for key, text in own.items()} == keys
    assert bool(differences(metadata)) == any(key.startswith(OWN) for key in keys)
    if tokenizer["post_processor"]:
        assert_exact(folder, metadata)


def test_word_pieces_that_are_written_otherwise(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, word_pieces("@@"))
    metadata = converted(folder)
    assert not any(text.startswith("@@") for text in metadata[KEY + "tokens"])
    assert_exact(folder, metadata)


def test_word_pieces_between_no_tokens(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    tokenizer["post_processor"] = template("[CLS]", "$A", ids=tokenizer["model"]["vocab"])
    folder = write_checkpoint(tmp_path, tokenizer)
    metadata = converted(folder)
    assert metadata[KEY + "add_eos_token"] is False and KEY + "add_bos_token" not in metadata
    assert_exact(folder, metadata)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_input_chars_per_word": 50}, "and max_input_chars_per_word 50, which GGUF cannot express"),
        ({"continuing_subword_prefix": ""}, "with continuing_subword_prefix '' and"),
    ],
)
def test_word_pieces_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    tokenizer = word_pieces()
    tokenizer["model"] |= changes
    with pytest.raises(UnsupportedModelError, match=message):
        read_vocabulary(write_checkpoint(tmp_path, tokenizer), {})
