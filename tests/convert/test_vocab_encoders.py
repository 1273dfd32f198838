"""Unigram and WordPiece tokenizer.json, in the forms of T5, XLM-RoBERTa, ALBERT and kinds of BERT."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import SENTENCES, converted, sentencepiece_model, write_checkpoint
from vocabularies import assert_exact

from ggufpy.convert.vocabulary.differences import differences
from ggufpy.convert.vocabulary.reading import read_vocabulary
from ggufpy.errors import UnsupportedModelError
from ggufpy.tokenizers.charsmap import SCHEMA

KEY, OWN = "tokenizer.ggml.", "ggufpy.tokenizer."
UNKNOWN, CONTROL, BYTE = 2, 3, 6
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


def metaspace(scheme: str = "always") -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}


def sequence(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: [*steps]}


def replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def template(*texts: str, ids: dict[str, int]) -> dict[str, Any]:
    single = [{"SpecialToken": {"id": text, "type_id": 0}} if text != "$A" else TEXT for text in texts]
    special = {text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in texts if text != "$A"}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
SPLIT = {"type": "WhitespaceSplit"}
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "MAP"}  # of the model
# Normalizer and pre_tokenizer; whether a space is put in front, and whether neighbouring ones are merged.
FORMS: dict[str, tuple[Any, Any, bool, bool]] = {
    "T5": (CHARSMAP, sequence("pretokenizers", SPLIT, metaspace()), True, True),
    "XLM-RoBERTa": (sequence("normalizers", CHARSMAP, replace(" {2,}", " ")), metaspace(), True, True),
    "ALBERT": (
        sequence("normalizers", replace("``", '"'), {"type": "NFKD"}, {"type": "Lowercase"}, CHARSMAP),
        metaspace("first"),
        True,
        False,
    ),
    "bare": (None, metaspace("never"), False, False),
    "uncut": (replace(" ", "\u2581"), None, False, False),
}


def unigram(form: str, *, bytes_: bool = False) -> dict[str, Any]:
    """A tokenizer.json of SentencePiece's model, as transformers converts T5's."""
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": 3}
    size = {"vocab_size": 370 if bytes_ else 110, "byte_fallback": bytes_}
    model = sentencepiece_model("unigram", normalization_rule_name="nmt_nfkc", **size, **ids)
    proto = SCHEMA.ModelProto.FromString(model)
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    blocks = json.dumps(FORMS[form][:2]).replace("MAP", charsmap)
    normalizer, pre_tokenizer = json.loads(blocks)
    vocab = [[piece.piece, piece.score] for piece in proto.pieces]
    names = {"<pad>": 0, "</s>": 1, "<unk>": 2, "<s>": 3, "<mask>": len(vocab)}
    added = [{"id": id, "content": text, "special": True, **FLAGS} for text, id in names.items()]
    added[-1]["lstrip"] = True
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": template("<s>", "$A", "</s>", ids=names),
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": bytes_},
    }


NAMES = {"bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>", "pad_token": "<pad>"}


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


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}
LOWER, ACCENTS = KEY + "normalizer.lowercase", KEY + "normalizer.strip_accents"
NORMALIZER, CUTTING = OWN + "normalizer", OWN + "pre_tokenizer"


def word_pieces(continues: str = "##") -> dict[str, Any]:
    """A tokenizer.json as BERT's."""
    words = " ".join(SENTENCES).split()
    letters = sorted({letter for word in words for letter in word + word.lower()})
    texts = [*SPECIAL, *letters, *(continues + letter for letter in letters), *dict.fromkeys(words)]
    vocab = {text: id for id, text in enumerate(dict.fromkeys(texts))}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": continues}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": id, "content": text, "special": True, **FLAGS} for id, text in enumerate(SPECIAL)
        ],
        "normalizer": {**BERT, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template("[CLS]", "$A", "[SEP]", ids=vocab),
        "decoder": None,
        "model": {**model, "max_input_chars_per_word": 100, "vocab": vocab},
    }


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
