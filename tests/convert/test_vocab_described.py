"""Tokenizers for which GGUF has no name: our own keys make ours exact, and other programs get the nearest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mutations
import pytest
from encoder_jsons import template
from tiny_checkpoints import models
from tiny_tokenizers import byte_level_json, converted, write_checkpoint
from vocabularies import assert_exact

from ggufpy.convert.pipeline import plan_conversion
from ggufpy.convert.vocabulary.differences import differences
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.pretokenizers import GPT2, LLAMA3, PRE_TOKENIZERS, QWEN2

KEY, OWN = "tokenizer.ggml.", "ggufpy.tokenizer."
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


def split(pattern: dict[str, str], behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def as_bytes(use_regex: bool = False, prefix: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


DIGITS = {"type": "Digits", "individual_digits": True}
STEPS = {
    "regex": ([split({"Regex": r"\w+|\W+"}), as_bytes()], None),
    "merged": ([split({"Regex": LLAMA3}, "MergedWithNext"), as_bytes()], None),
    "string": ([split({"String": " "}, "MergedWithPrevious"), as_bytes()], None),
    "prefix": ([as_bytes(use_regex=True, prefix=True)], "gpt-2"),
    "prefix and expression": ([split({"Regex": QWEN2}), as_bytes(prefix=True)], "qwen2"),
    "digits behind bytes": (
        [as_bytes(use_regex=True), {"type": "Digits", "individual_digits": False}],
        "gpt-2",
    ),
    "digits of bytes": (
        [*map(split, [{"Regex": PRE_TOKENIZERS["viking"].regexes[0]}]), as_bytes(), DIGITS],
        None,
    ),
    "nearly default": (
        [split({"Regex": regex}) for regex in (*PRE_TOKENIZERS["default"].regexes, "\x01")] + [as_bytes()],
        "falcon",
    ),
    "whitespace": ([{"type": "WhitespaceSplit"}, as_bytes()], None),
    "words": ([{"type": "Whitespace"}, as_bytes()], None),
    "bert": ([{"type": "BertPreTokenizer"}, as_bytes()], None),
    "delimiter": ([{"type": "CharDelimiterSplit", "delimiter": "1"}, as_bytes()], None),
    "scripts": ([{"type": "UnicodeScripts"}, as_bytes()], None),
    "punctuation": ([{"type": "Punctuation", "behavior": "MergedWithPrevious"}, as_bytes()], None),
    "metaspace": (
        [{"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": True}, as_bytes()],
        None,
    ),
    "digits": (
        [{"type": "Digits", "individual_digits": False}, split({"Regex": r"\p{L}+"}), as_bytes()],
        None,
    ),
    "nothing": ([as_bytes()], None),
}


@pytest.mark.parametrize("name", STEPS)
def test_cutting_that_no_name_says(tmp_path: Path, name: str) -> None:
    steps, nearest = STEPS[name]
    block = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    folder = write_checkpoint(tmp_path, {**byte_level_json(), "pre_tokenizer": block}, NAMES)
    metadata = converted(folder)
    assert json.loads(metadata[OWN + "pre_tokenizer"]) == block
    pre = metadata[KEY + "pre"]
    assert pre in PRE_TOKENIZERS
    assert pre != "default"
    assert nearest in (None, pre)
    assert_exact(folder, metadata)
    assert differences(metadata) == [
        f"tokenizer: ggufpy's is exact; other programs cut texts as '{pre}' does, "
        "so some texts get other tokens there"
    ]


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "deepseek-v3", "tekken", "poro-chat", "superbpe"])
def test_the_nearest_is_what_cuts_most_alike(tmp_path: Path, name: str) -> None:
    regexes = (*PRE_TOKENIZERS[name].regexes, "\x01")  # which is in no text
    tokenizer = byte_level_json(regexes)
    tokenizer["model"]["ignore_merges"] = PRE_TOKENIZERS[name].ignore_merges
    metadata = converted(write_checkpoint(tmp_path, tokenizer, NAMES))
    assert metadata[KEY + "pre"] == name and OWN + "pre_tokenizer" in metadata


@pytest.mark.parametrize(
    "pre_tokenizer", [{"type": "Sequence", "pretokenizers": [split({"Regex": GPT2})]}, None]
)
def test_bytes_that_the_normalizer_writes(tmp_path: Path, pre_tokenizer: dict[str, Any] | None) -> None:
    tokenizer = {**byte_level_json(), "normalizer": {"type": "ByteLevel"}, "pre_tokenizer": pre_tokenizer}
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert json.loads(metadata[OWN + "normalizer"]) == {"type": "ByteLevel"}
    assert OWN + "pre_tokenizer" in metadata
    assert_exact(folder, metadata)


def test_falcon_cuts_digits_behind_bytes(tmp_path: Path) -> None:
    steps = [
        {"type": "Punctuation", "behavior": "Contiguous"},
        as_bytes(True),
        split({"Regex": "[0-9][0-9][0-9]"}),
    ]
    tokenizer = {**byte_level_json(), "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert (metadata[KEY + "pre"], metadata.get(OWN + "pre_tokenizer")) == ("falcon", None)
    assert_exact(folder, metadata)


LOWER = {
    "type": "Sequence",
    "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}],
}


@pytest.mark.parametrize(
    ("normalizer", "written"),
    [
        (None, None),
        ({"type": "Sequence", "normalizers": []}, None),
        ({"type": "NFC"}, {"type": "NFC"}),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, {"type": "NFC"}),
        ({"type": "NFKC"}, {"type": "NFKC"}),
        (LOWER, LOWER),
    ],
)
def test_normalizers(tmp_path: Path, normalizer: Any, written: Any) -> None:
    folder = write_checkpoint(tmp_path, {**byte_level_json(), "normalizer": normalizer}, NAMES)
    metadata = converted(folder)
    assert json.loads(metadata.get(OWN + "normalizer", "null")) == written
    assert_exact(folder, metadata)
    (note,) = differences(metadata) or [""]
    assert bool(note) == bool(written)
    assert ("do not normalize as it does (NFD, StripAccents, Lowercase)" in note) == (written is LOWER)


def test_whole_words_where_merges_do_not_make_a_token(tmp_path: Path) -> None:
    tokenizer = byte_level_json((QWEN2,))
    tokenizer["model"]["ignore_merges"] = True
    harmless = converted(write_checkpoint(tmp_path / "harmless", tokenizer, NAMES))
    assert (harmless[KEY + "pre"], differences(harmless)) == ("qwen2", [])
    tokenizer["model"]["vocab"]["unreachable"] = 400
    for token in tokenizer["added_tokens"]:
        token["id"] += 1
    folder = write_checkpoint(tmp_path / "needed", tokenizer, NAMES)
    metadata = converted(folder)
    assert (metadata[KEY + "pre"], metadata[OWN + "ignore_merges"]) == ("qwen2", True)
    assert load_tokenizer(metadata).encode("unreachable", add_special=False) == [400]
    assert "merge words that are tokens" in differences(metadata)[0]


FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


@pytest.mark.parametrize("normalizer", [None, {"type": "NFC"}, LOWER])
def test_flags_of_added_tokens(tmp_path: Path, normalizer: Any) -> None:
    tokenizer = {**byte_level_json(), "normalizer": normalizer}
    for token, flag in zip(tokenizer["added_tokens"], FLAGS, strict=True):
        token |= {"special": False, flag: True}
    texts = ["foo", "e\u0301", "IT'S", "1234567", "<|im"]
    template = tokenizer["added_tokens"][0] | dict.fromkeys(FLAGS, False)
    for id, (text, mask) in enumerate(zip(texts, (4, 8, 13, 9, 0), strict=True), 404):
        flags = {flag: bool(mask >> i & 1) for i, flag in enumerate(FLAGS)}
        tokenizer["added_tokens"].append({**template, **flags, "id": id, "content": text})
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert metadata["ggufpy.lstrip_token_ids"] == [400, 406, 407]
    assert metadata["ggufpy.rstrip_token_ids"] == [401]
    assert metadata["ggufpy.single_word_token_ids"] == [402, 404, 406]
    assert metadata["ggufpy.normalized_token_ids"] == [403, 405, 406, 407]
    assert_exact(folder, metadata)
    assert "do without the flags of added tokens (lstrip, rstrip, single_word)" in differences(metadata)[0]


def test_texts_of_special_tokens_that_are_ordinary(tmp_path: Path) -> None:
    tokenizer = byte_level_json(specials=("<s>", "<|im_end|>"))
    vocab = tokenizer["model"]["vocab"]
    vocab |= {"</s>": 1, next(text for text, id in vocab.items() if id == 1): 400}
    for token in tokenizer["added_tokens"]:
        token["id"] += 1
    tokenizer["post_processor"] = template("<s>", "$A", ids={"<s>": 401})
    folder = write_checkpoint(tmp_path, tokenizer, {"bos_token": "<s>", "eos_token": "<|im_end|>"})
    metadata = converted(folder)
    assert metadata["ggufpy.ordinary_token_ids"] == [1] and metadata[KEY + "add_bos_token"] is True
    assert 1 not in load_tokenizer(metadata).eog_ids
    assert_exact(folder, metadata)
    assert "take </s> in a text for special" in differences(metadata)[0]


def test_the_summary_says_what_other_programs_do(tmp_path: Path) -> None:
    mutations.write(tmp_path, models()[0], "bytes")
    (tmp_path / "tokenizer.json").write_text(json.dumps({**byte_level_json(), "normalizer": {"type": "NFC"}}))
    notes = [note for note in plan_conversion(tmp_path).notes if note.startswith("tokenizer: ")]
    assert notes == [
        "tokenizer: ggufpy's is exact; other programs do not normalize as it does (NFC), "
        "so some texts get other tokens there"
    ]
