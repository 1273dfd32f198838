"""Tokenizers from GGUF metadata: special tokens, defaults, and one clear line for what is damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny_tokenizers import (
    bpe_metadata,
    spm_metadata,
)

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers import Tokenizer, load_tokenizer

Metadata = dict[str, Any]
KEY = "tokenizer.ggml."


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Metadata:
    return spm_metadata(tmp_path_factory.mktemp("spm"))


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Metadata:
    return bpe_metadata(tmp_path_factory.mktemp("bpe"))


@pytest.fixture(params=["spm", "bpe"])
def either(request: pytest.FixtureRequest) -> Metadata:
    metadata: Metadata = request.getfixturevalue(request.param)
    return metadata


def test_control_tokens_in_text_need_parse_special(either: Metadata) -> None:
    tokenizer = load_tokenizer(either)
    end = either[KEY + "tokens"].index("<|im_end|>")
    assert end in tokenizer.encode("a<|im_end|>b", parse_special=True)
    assert end not in tokenizer.encode("a<|im_end|>b")
    assert tokenizer.token_bytes(end) == b""
    assert tokenizer.token_bytes(end, special=True) == b"<|im_end|>"


def test_user_defined_tokens_are_always_cut_out(either: Metadata) -> None:
    end = either[KEY + "tokens"].index("<|im_end|>")
    tokens, types = list(either[KEY + "tokens"]), list(either[KEY + "token_type"])
    tokens[end], types[end] = " <tool>", 4
    tokenizer = load_tokenizer({**either, KEY + "tokens": tokens, KEY + "token_type": types})
    assert tokenizer.encode("x <tool>y").count(end) == 1
    assert tokenizer.token_bytes(end) == b" <tool>"


def test_longer_special_tokens_are_cut_out_first(bpe: Metadata) -> None:
    tokens = [*bpe[KEY + "tokens"][:-2], "<a>", "x<a><b>"]
    tokenizer = load_tokenizer({**bpe, KEY + "tokens": tokens})
    short, long = len(tokens) - 2, len(tokens) - 1
    assert tokenizer.encode("x<a><b><a>", parse_special=True) == [long, short]


def test_text_behind_a_special_token_starts_with_a_space_again(spm: Metadata) -> None:
    tokenizer = load_tokenizer(spm)
    one = tokenizer.encode("fox", add_special=False)
    end = spm[KEY + "tokens"].index("<|im_end|>")
    assert tokenizer.encode("fox<|im_end|>fox", parse_special=True) == [1, *one, end, *one]


def test_phi_3_swallows_spaces_behind_its_tokens(spm: Metadata) -> None:
    named = load_tokenizer({**spm, "general.name": "Phi-3 Mini"})
    for text, swallowed in (("<|im_end|>\n fox", "<|im_end|>fox"), ("<s>\nfox", "<s>\nfox")):
        assert named.encode(text, parse_special=True) == load_tokenizer(spm).encode(
            swallowed, parse_special=True
        )


def test_bos_and_eos_are_added_where_the_file_says_so(bpe: Metadata) -> None:
    bos, eos = bpe[KEY + "bos_token_id"], bpe[KEY + "eos_token_id"]
    both = load_tokenizer({**bpe, KEY + "add_bos_token": True, KEY + "add_eos_token": True})
    assert both.encode("") == [bos, eos]
    assert both.encode("", add_special=False) == []
    assert load_tokenizer(bpe).encode("") == []


def test_defaults_are_llama_cpp_s(spm: Metadata, bpe: Metadata) -> None:
    def without_ids(metadata: Metadata, **changes: str) -> Tokenizer:
        kept = {key: value for key, value in metadata.items() if not key.endswith(("_id", "_token"))}
        return load_tokenizer(kept | {KEY + key: value for key, value in changes.items()})

    tokenizer = without_ids(spm)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos, tokenizer.add_eos) == (1, 2, True, False)
    tokenizer = without_ids(bpe, pre="qwen2")
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos, tokenizer.add_eos) == (
        11,
        11,
        False,
        False,
    )
    assert without_ids(bpe, pre="llama-bpe").add_bos
    assert without_ids(bpe, pre="glm4").bos_id is None


def test_generation_ends_at_known_texts_and_named_ids(bpe: Metadata) -> None:
    def with_last(*texts: str, **changes: int) -> Tokenizer:
        tokens = bpe[KEY + "tokens"][: -len(texts)] + list(texts)
        return load_tokenizer(bpe | {KEY + "tokens": tokens} | {KEY + key: id for key, id in changes.items()})

    last = len(bpe[KEY + "tokens"]) - 1
    eos = bpe[KEY + "eos_token_id"]
    assert load_tokenizer(bpe).eog_ids == {eos, last}
    assert with_last("<|eot_id|>", eot_token_id=7).eog_ids == {eos, 7, last}
    assert with_last("<|fim_pad|>", eot_token_id=7).eog_ids == {eos, 7, last}
    # A format whose <|end|> ends a part of the answer only.
    assert with_last("<|return|>", "<|call|>", "<|end|>", eos_token_id=5, eot_token_id=5).eog_ids == {
        5,
        last - 2,
        last - 1,
    }


def test_lone_surrogates_and_nuls_are_text(either: Metadata) -> None:
    tokenizer = load_tokenizer(either)
    assert tokenizer.decode(tokenizer.encode("a\ud800b\udfff")) == "a\ufffdb\ufffd".encode()
    assert tokenizer.decode(tokenizer.encode("\ud83e\udd99")) == "\U0001f999".encode()
    assert tokenizer.decode(tokenizer.encode("\0a\0\0")) == b"\0a\0\0"


@pytest.mark.parametrize("text", ["a" * 200_000, " " * 200_000, "the fox. " * 20_000, "\u4f60" * 50_000])
def test_long_texts(either: Metadata, text: str) -> None:
    tokenizer = load_tokenizer(either)
    assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


def test_tokens_that_the_byte_alphabet_cannot_write_stand_for_themselves(bpe: Metadata) -> None:
    tokens = [*bpe[KEY + "tokens"][:-1], "\u4f60 x"]
    types = [*bpe[KEY + "token_type"][:-1], 1]
    tokenizer = load_tokenizer({**bpe, KEY + "tokens": tokens, KEY + "token_type": types})
    assert tokenizer.token_bytes(len(tokens) - 1) == "\u4f60 x".encode()


def test_empty_tokens_get_a_name(bpe: Metadata) -> None:
    tokens = [*bpe[KEY + "tokens"][:-2], "", ""]
    assert load_tokenizer({**bpe, KEY + "tokens": tokens}).encode("fox") == load_tokenizer(bpe).encode("fox")


@pytest.mark.parametrize("id", [-1, 10**6, 2**40])
def test_ids_outside_the_vocabulary_are_refused(either: Metadata, id: int) -> None:
    with pytest.raises(TokenizerError, match="outside the vocabulary"):
        load_tokenizer(either).token_bytes(id)


def test_a_missing_pre_tokenizer_is_guessed_with_a_warning(bpe: Metadata) -> None:
    del (metadata := dict(bpe))[KEY + "pre"]
    with pytest.warns(UserWarning, match="pre is missing"):
        tokenizer = load_tokenizer(metadata)
    assert tokenizer.encode("a 1234") == load_tokenizer({**bpe, KEY + "pre": "default"}).encode("a 1234")


Change = Callable[[Metadata], Any]


def cut(name: str) -> Change:
    return lambda metadata: metadata[KEY + name][:-1]


DAMAGES: list[tuple[str, Any, str]] = [
    ("model", None, "tokenizer.ggml.model is None"),
    ("model", "wordpiece", "has tokenizers of kind 'llama', 'gpt2'"),
    ("model", ["gpt2"], "tokenizer.ggml.model is"),
    ("tokens", None, "no vocabulary"),
    ("tokens", [], "no vocabulary"),
    ("tokens", [1, 2], "no vocabulary"),
    ("tokens", lambda m: [*m[KEY + "tokens"][:-1], m[KEY + "tokens"][7]], "is both 7 and"),
    ("token_type", cut("token_type"), "values for"),
    ("token_type", "normal", "not a list of numbers"),
    ("token_type", lambda m: [6] * len(m[KEY + "tokens"]), "byte token 0 is"),
    ("token_type", lambda m: [0.5] * len(m[KEY + "tokens"]), "token_type: not a list of whole numbers"),
    ("scores", [0.5], "1 values for"),
    ("scores", lambda m: [0.5] * (len(m[KEY + "tokens"]) - 1) + ["a"], "scores: not a list of numbers"),
    ("scores", lambda m: [float("nan")] * len(m[KEY + "tokens"]), "not numbers"),
    ("eos_token_id", -1, "is -1, not one of the"),
    ("eot_token_id", "x", "is 'x', not a token's id"),
    ("bos_token_id", True, "is True, not a token's id"),
    ("add_bos_token", 1, "not true or false"),
]


@pytest.mark.parametrize(("name", "value", "message"), DAMAGES)
def test_damaged_metadata_is_refused_in_one_line(
    either: Metadata, name: str, value: Any, message: str
) -> None:
    metadata = {**either, KEY + name: value(either) if callable(value) else value}
    if metadata[KEY + name] is None:
        del metadata[KEY + name]
    assert message in refusal(metadata)


def refusal(metadata: Metadata) -> str:
    with pytest.raises(TokenizerError) as caught:
        load_tokenizer(metadata)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("eos", {}), ("bos", {"add_bos_token": True}), ("eot", {}), ("eom", {}), ("fim_pad", {})],
)
def test_ids_outside_that_are_needed_are_refused(bpe: Metadata, name: str, changes: dict[str, bool]) -> None:
    key = f"{KEY}{name}_token_id"
    tokens = [*bpe[KEY + "tokens"][:-1], "plain"]  # none that ends a text by its name
    metadata = bpe | {KEY + "tokens": tokens, key: 2**32 - 1} | {KEY + k: v for k, v in changes.items()}
    message = refusal(metadata)
    assert f"{key} is 4294967295, not one of the {len(tokens)} tokens" in message
    assert f"ggufpy quantize --override-kv {key}=int:ID IN OUT copy" in message


def test_other_ids_outside_are_what_they_are_without_a_key(bpe: Metadata, spm: Metadata) -> None:
    last = len(bpe[KEY + "tokens"]) - 1
    bpe = bpe | {KEY + "tokens": [*bpe[KEY + "tokens"][:-1], "<|eot_id|>"]}
    for metadata, name, taken in (
        (bpe, "eot", last),
        (bpe, "bos", 11),
        (bpe, "fim_pre", None),
        (bpe, "mask", None),
        (spm, "unknown", 0),
    ):
        key = f"{KEY}{name}_token_id"
        with pytest.warns(
            UserWarning, match=f"{key} is -1, .*; {'none' if taken is None else taken} is taken"
        ):
            tokenizer = load_tokenizer({**metadata, key: -1})
        plain = load_tokenizer({k: value for k, value in metadata.items() if k != key})
        assert (tokenizer.bos_id, tokenizer.eog_ids) == (plain.bos_id, plain.eog_ids)
        assert tokenizer.encode("a<|eot_id|>", parse_special=True) == plain.encode(
            "a<|eot_id|>", parse_special=True
        )


def test_bos_wanted_but_missing_is_refused(bpe: Metadata) -> None:
    metadata = {**bpe, KEY + "pre": "glm4", KEY + "add_bos_token": True}
    del metadata[KEY + "bos_token_id"]
    assert "no tokenizer.ggml.bos_token_id" in refusal(metadata)


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ("ab", "is not two parts"),
        ("", "is not two parts"),
        (" b", "is not two parts"),
        ("a ", "is not two parts"),
        ("a b c", "needs 'b c'"),
        ("zzz a", "needs 'zzz'"),
        ("Q Z", "needs 'QZ'"),
        ("a \udc80", "needs"),
    ],
)
def test_hostile_merges_are_refused(bpe: Metadata, merge: str, message: str) -> None:
    merges = [*bpe[KEY + "merges"], merge]
    assert message in refusal({**bpe, KEY + "merges": merges})


@pytest.mark.parametrize("value", [None, "a b", [1, 2], ["t h", 3]])
def test_merges_that_are_no_strings_are_refused(bpe: Metadata, value: Any) -> None:
    assert "tokenizer.ggml.merges" in refusal({**bpe, KEY + "merges": value})


def test_an_unknown_pre_tokenizer_is_refused(bpe: Metadata) -> None:
    assert "tokenizer.ggml.pre is 'no-such'" in refusal({**bpe, KEY + "pre": "no-such"})


def test_a_sentencepiece_vocabulary_needs_an_unknown_token(spm: Metadata) -> None:
    assert "unknown_token_id" in refusal({**spm, KEY + "unknown_token_id": 300})
    assert "unknown_token_id" in refusal({key: spm[key] for key in spm if not key.endswith("type")})


def test_a_sentencepiece_vocabulary_without_all_bytes_has_unknown_characters(spm: Metadata) -> None:
    types = [5 if token == "<0xF0>" else type for token, type in vocabulary(spm)]
    tokenizer = load_tokenizer({**spm, KEY + "token_type": types})
    assert 0 in tokenizer.encode("\U0001f999")
    assert 0 not in load_tokenizer(spm).encode("\U0001f999")


def vocabulary(metadata: Metadata) -> list[tuple[str, int]]:
    return list(zip(metadata[KEY + "tokens"], metadata[KEY + "token_type"], strict=True))


def test_bytes_that_are_no_text_in_a_vocabulary(either: Metadata) -> None:
    tokens = [*either[KEY + "tokens"][:-1], "\udcff"]
    tokenizer = load_tokenizer({**either, KEY + "tokens": tokens})
    assert tokenizer.token_bytes(len(tokens) - 1, special=True) == b"\xff"
    assert tokenizer.decode(tokenizer.encode("\xff a\xff", parse_special=True)) == "\xff a\xff".encode()
