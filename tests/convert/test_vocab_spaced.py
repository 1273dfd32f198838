"""BPE of tokenizer.json that writes spaces as U+2581, in the forms that Llama's and Gemma's are saved in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import (
    converted,
    json_of_sentencepiece,
    sentencepiece_model,
    spaces_json,
    write_checkpoint,
)
from tokenizers import Tokenizer
from vocabularies import assert_exact

from ggufpy.convert.vocabulary.differences import differences
from ggufpy.convert.vocabulary.reading import read_vocabulary
from ggufpy.errors import UnsupportedModelError
from ggufpy.tokenizers import load_tokenizer

KEY, OWN = "tokenizer.ggml.", "ggufpy.tokenizer."
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6

PREFIX = {"type": "Prepend", "prepend": "\u2581"}
ESCAPE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
AT_SPACES = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}


def metaspace(scheme: str, *, split: bool = False) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def both(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": [*steps]}


# How spaces are treated: normalizer, pre_tokenizer; whether one is put in front; whether GGUF says all of it.
FORMS: dict[str, tuple[Any, Any, bool, bool]] = {
    "transformers 4": (both(PREFIX, ESCAPE), None, True, True),
    "no prefix": (ESCAPE, None, False, True),
    "Gemma": (ESCAPE, AT_SPACES, False, True),
    "transformers 5": (None, metaspace("first"), True, False),
    "transformers 5, legacy": (None, metaspace("always"), True, False),
    "transformers 5, no prefix": (None, metaspace("never"), False, False),
    "cut at spaces": (None, metaspace("first", split=True), True, False),
    "composed": (both({"type": "NFKC"}, PREFIX, ESCAPE), None, True, False),
    "other spaces": (both(PREFIX, ESCAPE), {"type": "Digits", "individual_digits": True}, True, False),
}


@pytest.mark.parametrize("all_merges", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path: Path, form: str, all_merges: bool) -> None:
    normalizer, pre_tokenizer, prefix, is_plain = FORMS[form]
    tokenizer = spaces_json(all_merges=all_merges) | {
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
    }
    folder = write_checkpoint(tmp_path, tokenizer, {**NAMES, "add_prefix_space": not prefix})
    metadata = converted(folder)
    is_spm = all_merges or prefix
    kind = ("llama", "default") if is_spm else ("gpt2", "sarvam-moe")
    assert (metadata[KEY + "model"], metadata[KEY + "pre"]) == kind
    assert metadata.get(KEY + "add_space_prefix", is_spm) is prefix
    assert (OWN + "merges" in metadata) == (is_spm and not all_merges)
    if all_merges:
        described = {key: json.loads(metadata[key]) for key in metadata if key.startswith(OWN)}
        parts = {OWN + "normalizer": normalizer, OWN + "pre_tokenizer": pre_tokenizer}
        assert described == ({} if is_plain else {key: block for key, block in parts.items() if block})
        assert bool(differences(metadata)) == (not is_plain)
    assert_exact(folder, metadata)
    assert load_tokenizer(metadata).decode(load_tokenizer(metadata).encode("The fox")) == b"The fox"


@pytest.mark.parametrize("form", FORMS)
def test_a_model_beside_it_changes_scores_alone(tmp_path: Path, form: str) -> None:
    model = sentencepiece_model()
    parts = {"normalizer": FORMS[form][0], "pre_tokenizer": FORMS[form][1]}
    alone = converted(write_checkpoint(tmp_path, json_of_sentencepiece(model) | parts, NAMES))
    folder = write_checkpoint(tmp_path, model, NAMES)
    beside = converted(folder)
    assert beside[KEY + "scores"][259:262] == [0.0, -1.0, -2.0]
    assert {**beside, KEY + "scores": alone[KEY + "scores"]} == alone
    assert_exact(folder, beside)


def test_added_tokens_of_spaces(tmp_path: Path) -> None:
    """Gemma's: U+2581 in them is no space of the text, but is printed as one."""
    tokenizer = spaces_json()
    count = len(tokenizer["model"]["vocab"])
    spaces = tokenizer["model"]["vocab"]["\u2581\u2581"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    tokenizer["added_tokens"] += [
        {"id": spaces, "content": "\u2581\u2581", **flags},
        {"id": count, "content": "<table>", **flags},
    ]
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert metadata["ggufpy.added_token_ids"] == [spaces]
    types = metadata[KEY + "token_type"]
    assert (types[spaces], types[count:]) == (NORMAL, [USER_DEFINED])
    assert_exact(folder, metadata)
    ours = load_tokenizer(metadata)
    assert ours.decode(ours.encode("a  b")) == b"a  b"
    assert ours.encode("\u2581\u2581", add_special=False)[-1] == spaces


@pytest.mark.parametrize(
    ("config", "all_merges"),
    [({}, False), ({"model_type": "gemma4"}, True), ({"model_type": "gemma4"}, False)],
)
def test_merges_are_listed_where_scores_do_not_say_them(
    tmp_path: Path, config: dict[str, Any], all_merges: bool
) -> None:
    tokenizer = spaces_json(prefix=False, all_merges=all_merges)
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = read_vocabulary(folder, config)
    kind = ("gemma4", None) if config else ("gpt2", "sarvam-moe")
    assert (metadata[KEY + "model"], metadata.get(KEY + "pre")) == kind
    assert metadata[KEY + "merges"] == [" ".join(merge) for merge in tokenizer["model"]["merges"]]
    if config:
        assert set(metadata[KEY + "scores"]) == {-1000.0}  # type: ignore[arg-type]
        assert metadata[KEY + "add_space_prefix"] is False


def test_an_added_token_that_scores_would_make(tmp_path: Path) -> None:
    """U+2581 is no space in it, and no space of a text becomes part of it."""
    tokenizer = spaces_json()
    vocab, count = tokenizer["model"]["vocab"], len(tokenizer["model"]["vocab"])
    text = next(text for token in vocab if token.isalpha() and (text := "\u2581a" + token) not in vocab)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    tokenizer["added_tokens"].append({"id": count, "content": text, **flags})
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert metadata["ggufpy.added_token_ids"] == [count] and OWN + "merges" in metadata
    ours, theirs = load_tokenizer(metadata), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for each in (text, text.replace("\u2581", " "), f"b{text}c", f"b {text[1:]}c"):
        assert ours.encode(each, add_special=False) == theirs.encode(each, add_special_tokens=False).ids


@pytest.mark.parametrize("unknown", ["<unk>", None])
@pytest.mark.parametrize("all_merges", [True, False])
def test_unknown_characters(tmp_path: Path, unknown: str | None, all_merges: bool) -> None:
    tokenizer = spaces_json(all_merges=all_merges)
    tokenizer["model"] |= {"byte_fallback": False, "fuse_unk": False, "unk_token": unknown}
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert metadata.get(OWN + "fuse_unknown") is (False if unknown else None)
    assert_exact(folder, metadata)


def test_what_is_no_space_is_refused(tmp_path: Path) -> None:
    tokenizer = {**spaces_json(), "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}}
    with pytest.raises(UnsupportedModelError, match="neither bytes as letters nor spaces as U"):
        read_vocabulary(write_checkpoint(tmp_path, tokenizer, NAMES), {})
