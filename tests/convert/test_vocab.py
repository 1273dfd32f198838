"""Vocabularies of checkpoints: the keys that llama.cpp writes, and refusals where GGUF cannot say it."""

from __future__ import annotations

import copy
import json
import re
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_tokenizers import (
    SPECIALS,
    byte_level_json,
    converted,
    sentencepiece_model,
    spaces_json,
    write_checkpoint,
)
from tokenizers import Tokenizer

from ggufpy.convert.vocabulary.reading import check_vocabulary, read_vocabulary
from ggufpy.errors import FormatError, TokenizerError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import load_tokenizer

KEY = "tokenizer.ggml."
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6


@pytest.fixture(scope="module")
def byte_level() -> dict[str, Any]:
    return byte_level_json()


@pytest.mark.parametrize("file", ["q8_0", "q4_0", "q4_k_m"])
def test_shipped_checkpoint_gives_what_llama_cpp_wrote(
    shared: Path, shipped_checkpoint: Path, file: str
) -> None:
    config = json.loads((shipped_checkpoint / "config.json").read_text())
    path = shared / "conformance" / "eval" / f"pocket-wiki-7m-chat-{file}.gguf"
    with GGUFFile.open(path) as theirs:
        wanted = {key: value for key, value in theirs.metadata.items() if key.startswith("tokenizer.")}
    ours = converted(shipped_checkpoint, config)
    assert ours == wanted
    assert list(ours) == list(wanted)


def test_tokens_are_padded_to_the_model_s_rows(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    folder = write_checkpoint(tmp_path, byte_level, NAMES)
    count = len(byte_level["model"]["vocab"]) + len(SPECIALS)
    metadata = converted(folder, {"vocab_size": count + 3})
    assert metadata[KEY + "tokens"][-3:] == [f"[PAD{count + n}]" for n in range(3)]
    assert metadata[KEY + "token_type"][-4:] == [CONTROL, UNUSED, UNUSED, UNUSED]
    assert len(metadata[KEY + "tokens"]) == len(metadata[KEY + "token_type"]) == count + 3


def test_gaps_between_ids_are_filled(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    added = {"401": {"content": "<|far|>", "special": True}, "410": {"content": "plain", "special": False}}
    del (tokenizer := copy.deepcopy(byte_level))["added_tokens"][1:]
    config = {"added_tokens_decoder": added, "eos_token": "<s>"}
    metadata = read_vocabulary(write_checkpoint(tmp_path, tokenizer, config), {})
    tokens, types = metadata[KEY + "tokens"], metadata[KEY + "token_type"]
    assert isinstance(tokens, list)
    assert isinstance(types, list)
    assert tokens[400:] == ["<s>", "<|far|>", *[f"[PAD{id}]" for id in range(402, 410)], "plain"]
    assert types[400:] == [CONTROL, CONTROL, *[UNUSED] * 8, USER_DEFINED]


def test_added_tokens_without_a_row_are_left_out(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    metadata = converted(write_checkpoint(tmp_path, byte_level, NAMES), {"vocab_size": 402})
    assert metadata[KEY + "tokens"][400:] == ["<s>", "</s>"]


def test_trained_tokens_without_a_row_are_refused(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match=r"token 300.* no row in a model of 300 tokens"):
        read_vocabulary(write_checkpoint(tmp_path, byte_level), {"vocab_size": 300})


def test_types_of_added_tokens(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    tokenizer = copy.deepcopy(byte_level)
    for id, text in enumerate(["plain", "<|looks_special|>", "\u2581two\u2581words"], 404):
        tokenizer["added_tokens"].append(
            {**tokenizer["added_tokens"][0], "id": id, "content": text, "special": False}
        )
    metadata = read_vocabulary(write_checkpoint(tmp_path, tokenizer), {})
    assert metadata[KEY + "token_type"][404:] == [USER_DEFINED, CONTROL, USER_DEFINED]  # type: ignore[index]
    assert metadata[KEY + "tokens"][406] == "\u2581two\u2581words"  # type: ignore[index]


def test_special_ids_come_from_the_sources_in_order(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    folder = write_checkpoint(
        tmp_path,
        byte_level,
        {"eos_token": {"content": "<|im_end|>"}, "pad_token": "not there"},
        special_tokens_map='{"eos_token": "</s>", "bos_token": "<s>"}',
        generation_config='{"eos_token_id": [1, 401, 2, 3], "pad_token_id": 6, "bos_token_id": 7}',
    )
    metadata = converted(folder, {"unk_token_id": 3, "sep_token_id": [4, 5], "mask_token_id": 10**6})
    ids = {key: value for key, value in metadata.items() if key.endswith("_id")}
    assert list(ids.items()) == [
        (KEY + "bos_token_id", 400),
        (KEY + "eos_token_id", 403),
        (KEY + "unknown_token_id", 3),
        (KEY + "seperator_token_id", 4),
        (KEY + "padding_token_id", 6),
        (KEY + "eot_token_id", 1),
        (KEY + "eom_token_id", 2),
    ]
    assert metadata["ggufpy.end_token_ids"] == [3]
    assert load_tokenizer(metadata).eog_ids == {401, 403, 1, 2, 3}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token": "<|im_end|>"}, "end-of-text token '<|im_end|>' is 403, and the model has 402 tokens"),
        ({"chat_template": "<|im_start|>{{ x }}"}, "template's token '<|im_start|>' is 402, and the model"),
    ],
)
def test_tokens_that_matter_need_a_row(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = write_checkpoint(tmp_path, byte_level_json(), config)
    with pytest.raises(TokenizerError, match=re.escape(message) + ".*; resize the model's embedding"):
        read_vocabulary(folder, {"vocab_size": 402, "eos_token_id": 403})


@pytest.mark.parametrize(
    ("config", "message"),
    [({}, "no eos_token is named"), ({"eos_token_id": 999}, "eos_token_id 999 is not one of 399 tokens")],
)
def test_no_file_is_without_an_end_token(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = write_checkpoint(tmp_path, byte_level_json(specials=()))
    size = len(byte_level_json(specials=())["model"]["vocab"])
    with pytest.raises(TokenizerError, match=message.replace("399", str(size))):
        read_vocabulary(folder, config)


def test_added_tokens_that_swallow_white_space(tmp_path: Path) -> None:
    tokenizer = byte_level_json()
    flags = [(True, True), (True, False), (False, True), (False, False)]
    for token, (lstrip, rstrip) in zip(tokenizer["added_tokens"], flags, strict=True):
        token |= {"lstrip": lstrip, "rstrip": rstrip, "special": lstrip}
    folder = write_checkpoint(tmp_path, tokenizer, NAMES)
    metadata = converted(folder)
    assert metadata["ggufpy.lstrip_token_ids"] == [400, 401]
    assert metadata["ggufpy.rstrip_token_ids"] == [400, 402]
    ours, theirs = load_tokenizer(metadata), Tokenizer.from_file(str(folder / "tokenizer.json"))
    spaces = ("", " ", "\n", " \t\u3000", "\x1c ", " \x1c")
    for left, right, name in product(spaces, spaces, SPECIALS):
        text = f"a{left}{name}{right}b{left}{name}"
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special=False, parse_special=True) == ids, text


def test_ids_known_by_text(tmp_path: Path) -> None:
    texts = (
        "</s>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        "<|fim_pad|>",
    )
    tokenizer = byte_level_json(specials=texts)
    metadata = converted(write_checkpoint(tmp_path, tokenizer, {"eos_token": "</s>"}))
    names = ("eos", "eot", "eom", "fim_pre", "fim_suf", "fim_mid", "fim_pad")
    assert [metadata[f"{KEY}{name}_token_id"] for name in names] == list(range(400, 407))


def template(*texts: str) -> dict[str, Any]:
    """A post-processor that puts `texts`, of which "$A" is the text itself, into a row."""
    ids = dict(zip(SPECIALS, range(400, 404), strict=True))
    pieces = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if text == "$A"
        else {"SpecialToken": {"id": text, "type_id": 0}}
        for text in texts
    ]
    special = {text: {"id": text, "ids": [id], "tokens": [text]} for text, id in ids.items()}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": special}


AS_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
LLAMA = {"tokenizer_class": "LlamaTokenizerFast"}  # puts BOS and EOS itself, as DeepSeek's models name it


@pytest.mark.parametrize(
    ("post_processor", "config", "flags"),
    [
        (None, {}, {}),
        (None, {"add_bos_token": True, "add_eos_token": False}, {"bos": True, "eos": False}),
        (template("<s>", "$A"), {}, {"bos": True}),
        (template("<s>", "$A"), {"add_bos_token": False, "add_eos_token": True}, {"bos": True, "eos": False}),
        (template("<s>", "$A", "</s>"), {}, {"bos": True, "eos": True}),
        (template("$A", "</s>"), {"add_bos_token": True}, {"bos": False, "eos": True}),
        ({"type": "Sequence", "processors": [template("<s>", "$A")]}, {}, {"bos": True}),
        (AS_BYTES, {**LLAMA, "add_bos_token": True}, {"bos": True}),
        (AS_BYTES, {"add_bos_token": True}, {"bos": False}),
        (template("<s>", "$A"), {**LLAMA, "add_bos_token": False}, {"bos": False}),
        (template("<s>", "$A"), LLAMA, {"bos": True}),
    ],
)
def test_what_is_added_to_a_text(
    tmp_path: Path,
    byte_level: dict[str, Any],
    post_processor: dict[str, Any] | None,
    config: dict[str, Any],
    flags: dict[str, bool],
) -> None:
    tokenizer = {**byte_level, "post_processor": post_processor}
    metadata = converted(write_checkpoint(tmp_path, tokenizer, {**NAMES, **config}))
    found = {part: metadata[key] for part in ("bos", "eos") if (key := f"{KEY}add_{part}_token") in metadata}
    assert found == flags


def test_a_token_put_in_front_is_the_bos_token(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    tokenizer = {**byte_level, "post_processor": template("<|im_start|>", "$A")}
    metadata = converted(write_checkpoint(tmp_path, tokenizer))
    assert (metadata[KEY + "bos_token_id"], metadata[KEY + "add_bos_token"]) == (402, True)


def test_a_bos_token_that_is_wanted_but_not_named(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    folder = write_checkpoint(tmp_path, byte_level, {"add_bos_token": True})
    with pytest.raises(TokenizerError, match="add_bos_token is true, but no bos_token is named"):
        read_vocabulary(folder, {})


def test_nothing_is_added_where_readers_would_but_the_checkpoint_does_not(tmp_path: Path) -> None:
    tokenizer = byte_level_json()
    tokenizer["model"]["ignore_merges"] = True
    metadata = converted(write_checkpoint(tmp_path / "bpe", tokenizer, NAMES))
    assert (metadata[KEY + "pre"], metadata[KEY + "add_bos_token"]) == ("llama-bpe", False)
    metadata = converted(write_checkpoint(tmp_path / "spaces", spaces_json(), NAMES))
    assert (metadata[KEY + "model"], metadata[KEY + "add_bos_token"]) == ("llama", False)


def test_merges_as_pairs_and_as_strings(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    pairs, strings = copy.deepcopy(byte_level), copy.deepcopy(byte_level)
    pairs["model"]["merges"] = [list(merge) for merge in byte_level["model"]["merges"]]
    strings["model"]["merges"] = [" ".join(merge) for merge in byte_level["model"]["merges"]]
    first = converted(write_checkpoint(tmp_path / "pairs", pairs))
    second = converted(write_checkpoint(tmp_path / "strings", strings))
    assert first == second
    assert first[KEY + "merges"] == strings["model"]["merges"]


def test_chat_templates(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    def templates(name: str, config: Any = None, files: dict[str, str] | None = None) -> dict[str, Any]:
        folder = write_checkpoint(
            tmp_path / name, byte_level, {} if config is None else {"chat_template": config}
        )
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, "utf-8")
        metadata = read_vocabulary(folder, {})
        return {key.removeprefix("tokenizer."): metadata[key] for key in metadata if "chat" in key}

    assert templates("none") == {}
    assert templates("text", "T") == {"chat_template": "T"}
    named = [{"name": "default", "template": "D"}, {"name": "tool use", "template": "U"}]
    two = {"chat_template": "D", "chat_template.tool_use": "U", "chat_templates": ["tool_use"]}
    assert templates("list", named) == two
    assert templates("json", None, {"chat_template.json": '{"chat_template": "J"}'}) == {"chat_template": "J"}
    assert templates("jinja", "T", {"chat_template.jinja": "F\u00e9"}) == {"chat_template": "F\u00e9"}
    files = {"chat_template.jinja": "D", "additional_chat_templates/tool use.jinja": "U"}
    assert templates("folder", "T", files) == two
    with pytest.raises(FormatError, match="neither text nor a list"):
        templates("wrong", [{"name": 1, "template": "U"}])
    with pytest.raises(FormatError, match="neither text nor a list"):
        templates("number", 5)


def test_the_check_shows_the_first_difference(tmp_path: Path, byte_level: dict[str, Any]) -> None:
    folder = write_checkpoint(tmp_path, byte_level)
    metadata = dict(read_vocabulary(folder, {}))
    merges = metadata[KEY + "merges"]
    assert isinstance(merges, list)
    metadata[KEY + "merges"] = merges[1:]
    with pytest.raises(TokenizerError, match=r"turns '.*' into \[\d+, .*\], the converted one into \[\d+"):
        check_vocabulary(folder, metadata)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("tokenizer.json", "{", "not valid JSON"),
        ("tokenizer.json", "[]", "not a JSON object"),
        ("tokenizer.json", '{"model": 5}', "not a tokenizer"),
        ("tokenizer_config.json", "nonsense", "not valid JSON"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"x": {"content": "a"}}}',
            "malformed",
        ),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"1": {"content": 2}}}',
            "malformed",
        ),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "malformed"),
        ("added_tokens.json", f'{{"a": {2**61 - 1}}}', "malformed .*id 2305843009213693951"),
        ("tokenizer.model", "nonsense", None),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, byte_level: dict[str, Any], file: str, text: str, message: str | None
) -> None:
    folder = write_checkpoint(tmp_path, byte_level)
    (folder / file).write_text(text)
    if message is None:
        (folder / "tokenizer.json").unlink()
        message = "not a SentencePiece model"
    with pytest.raises(FormatError, match=message) as caught:
        read_vocabulary(folder, {})
    assert "\n" not in str(caught.value)


def test_two_tokens_of_one_text(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, sentencepiece_model(), {"eos_token": "</s>"}, added_tokens='{"<s>": 400}')
    with pytest.raises(TokenizerError, match="'<s>' is both token 1 and token 400; correct"):
        converted(tmp_path)


@pytest.mark.parametrize("base", [Exception, BaseException])
def test_what_the_library_raises_is_refused(
    tmp_path: Path, byte_level: dict[str, Any], monkeypatch: pytest.MonkeyPatch, base: type[BaseException]
) -> None:
    def from_buffer(data: bytes) -> None:
        raise type("PanicException", (base,), {})("data did\nnot match")

    monkeypatch.setattr("tokenizers.Tokenizer", SimpleNamespace(from_buffer=from_buffer))
    with pytest.raises(
        FormatError, match=r"tokenizer\.json: not a tokenizer \(data did not match\); download"
    ):
        read_vocabulary(write_checkpoint(tmp_path, byte_level), {})


def test_a_checkpoint_without_tokenizer_is_refused(tmp_path: Path) -> None:
    for name in (None, "vocab.json"):
        if name:
            (tmp_path / name).write_text("{}")
        with pytest.raises(FormatError, match=r"no tokenizer there, as tokenizer\.json, .*; copy the"):
            read_vocabulary(write_checkpoint(tmp_path, None), {})


@pytest.mark.parametrize("size", [0, -1, "many", True, 2**40])
def test_a_wrong_vocabulary_size_is_refused(tmp_path: Path, byte_level: dict[str, Any], size: Any) -> None:
    with pytest.raises(FormatError, match="vocab_size is"):
        read_vocabulary(write_checkpoint(tmp_path, byte_level), {"vocab_size": size})
