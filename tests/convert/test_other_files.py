"""Vocabularies without tokenizer.json: tiktoken's ranks, tekken.json, GPT-2's and BERT's files."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import byte_level_json, converted, write_checkpoint
from tokenizers import decoders, models, normalizers, pre_tokenizers

from ggufpy.convert.vocabulary.reading import check_vocabulary, read_vocabulary
from ggufpy.errors import FormatError, GgufpyError, UnsupportedModelError
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.bpe import BYTES
from ggufpy.tokenizers.pretokenizers import GPT2, PRE_TOKENIZERS, TEKKEN

KEY = "tokenizer.ggml."
LETTERS = [
    *"abdeghinorstw .,'\n\t019",
    "the",
    " the",
    " quick",
    "\u00fc",
    "e\u0301",
    "\u6587\u7ae0",
    "\U0001f600",
]
TEXTS = st.lists(st.sampled_from(LETTERS), max_size=30).map("".join)


def trained(n: int = 400) -> dict[bytes, int]:
    """Tokens and ranks; those of one byte first, in an order of their own."""
    vocab = byte_level_json(vocab_size=n)["model"]["vocab"]
    return {bytes(BYTES[letter] for letter in text): id for text, id in vocab.items()}


RANKS = trained()


def by_ranks(text: str, regexes: tuple[str, ...], ranks: Mapping[bytes, int]) -> list[int]:
    """What tiktoken does: whole words first, else the neighbours of the lowest rank, from the left."""
    steps = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in regexes]
    ids = []
    for word, _ in pre_tokenizers.Sequence(steps).pre_tokenize_str(text):
        parts = [bytes([byte]) for byte in word.encode()]
        parts = [word.encode()] if word.encode() in ranks else parts
        while True:
            pairs = [(ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(pairwise(parts))]
            rank, i = min(pairs, default=(len(ranks), 0))
            if rank == len(ranks):
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def rank_file(ranks: Mapping[bytes, int]) -> bytes:
    return b"".join(b"%s %d\n" % (b64encode(token), rank) for token, rank in ranks.items())


def folder_of(folder: Path, files: Mapping[str, bytes], config: dict[str, Any], **names: Any) -> Path:
    write_checkpoint(folder, None, names, config=json.dumps(config))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("file", "model_type", "pre"),
    [
        ("tokenizer.model", "llama", "llama-bpe"),
        ("tokenizer.model", "llama4", "llama4"),
        ("qwen.tiktoken", "qwen", "qwen2"),
        ("x.tiktoken", "qwen3_5", "qwen35"),
        ("tiktoken.model", "kimi_k2", "kimi-k2"),
        ("tokenizer.model", "chatglm", "glm4"),
    ],
)
def test_rank_files(tmp_path: Path, file: str, model_type: str, pre: str) -> None:
    config, ranks = {"model_type": model_type}, {**RANKS, b"zzq": 400}  # which no merges make
    folder = folder_of(tmp_path, {file: rank_file(ranks)}, config, eos_token="!")
    metadata = converted(folder, config)
    program = PRE_TOKENIZERS[pre]
    assert PRE_TOKENIZERS[metadata[KEY + "pre"]].regexes == program.regexes
    ours = load_tokenizer(metadata)

    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        text = text.replace("\u0301", "")  # which Qwen's composes
        assert ours.encode(text, add_special=False) == by_ranks(text, program.regexes, ranks)

    check()
    assert ours.encode("zzq", add_special=False) == [400]


def test_special_tokens_behind_ranks(tmp_path: Path) -> None:
    files = {"tokenizer.model": rank_file(RANKS)}
    folder = folder_of(tmp_path / "a", files, {"model_type": "llama", "vocab_size": 656})
    metadata = converted(folder, {"model_type": "llama", "vocab_size": 656})
    tokenizer = load_tokenizer(metadata)
    assert tokenizer.encode("<|eot_id|>", parse_special=True) == [400, 409]
    assert (tokenizer.eos_id, 409 in tokenizer.eog_ids) == (401, True)
    added = {"401": {"content": "<|begin_of_text|>", "special": True}, "402": {"content": "<|end_of_text|>"}}
    folder = folder_of(tmp_path / "b", files, {"model_type": "llama"}, added_tokens_decoder=added)
    assert converted(folder, {"model_type": "llama"})[KEY + "bos_token_id"] == 401
    folder = folder_of(tmp_path / "c", {"qwen.tiktoken": rank_file(RANKS)}, {"model_type": "qwen"})
    qwen = load_tokenizer(converted(folder, {"model_type": "qwen"}))
    assert qwen.encode("e\u0301<|im_end|>", parse_special=True)[-1] == 402
    assert qwen.encode("e\u0301") == qwen.encode("\u00e9")


def test_the_architecture_says_whose_ranks_these_are(tmp_path: Path) -> None:
    """Meta's own checkpoints have no config.json."""
    folder = folder_of(tmp_path, {"tokenizer.model": rank_file(RANKS)}, {})
    (folder / "config.json").unlink()
    metadata = read_vocabulary(folder, {"model_type": "llama"})
    check_vocabulary(folder, {"general.architecture": "llama", **metadata})
    with pytest.raises(UnsupportedModelError, match="how none cuts text is not said"):
        check_vocabulary(folder, {"general.architecture": "none", **metadata})


def test_equal_merges_are_found_in_the_order_of_ranks(tmp_path: Path) -> None:
    """(a, aa) and (aa, a) make one token: both are listed, as in the tokenizer.json of Llama 3."""
    ranks = {**{bytes([byte]): byte for byte in range(256)}, b"aa": 256, b"aaa": 257, b"ba": 258, b"baa": 259}
    config = {"model_type": "llama"}
    metadata = converted(folder_of(tmp_path, {"tokenizer.model": rank_file(ranks)}, config), config)
    assert metadata[KEY + "merges"] == ["a a", "a aa", "aa a", "b a", "b aa", "ba a"]


def tekken(ranks: Mapping[bytes, int], **more: Any) -> bytes:
    rows = [{"rank": rank, "token_bytes": b64encode(token).decode()} for token, rank in ranks.items()]
    rows.append({"rank": len(rows), "token_bytes": "AAAA"})  # files list more than are used
    sizes = {"default_vocab_size": len(ranks) + 30, "default_num_special_tokens": 30}
    return json.dumps({"config": {"pattern": TEKKEN, **sizes}, "vocab": rows, **more}).encode()


def test_tekken(tmp_path: Path) -> None:
    metadata = converted(folder_of(tmp_path, {"tekken.json": tekken(RANKS)}, {}))
    tokens, ours = metadata[KEY + "tokens"], load_tokenizer(metadata)
    assert tokens[:4] == ["<unk>", "<s>", "</s>", "[INST]"] and tokens[29] == "<SPECIAL_29>"
    assert metadata[KEY + "pre"] == "tekken" and len(tokens) == len(RANKS) + 30
    for text in ("The quick brown fox, 1234!", "  spaces\n\n caf\u00e9 \u6587\u7ae0 [INST]", ""):
        assert ours.encode(text) == [1, *(30 + id for id in by_ranks(text, (TEKKEN,), RANKS))]
    assert ours.encode("[INST]a", parse_special=True)[:2] == [1, 3]
    assert (ours.bos_id, ours.eos_id) == (1, 2)


def test_tekken_with_its_special_tokens(tmp_path: Path) -> None:
    special = [{"rank": id, "token_str": text} for id, text in enumerate(("<unk>", "<s>", "</s>", "[THINK]"))]
    metadata = converted(folder_of(tmp_path, {"tekken.json": tekken(RANKS, special_tokens=special)}, {}))
    assert metadata[KEY + "tokens"][2:6] == ["</s>", "[THINK]", "<SPECIAL_4>", "<SPECIAL_5>"]


def gpt2_files(specials: tuple[str, ...]) -> dict[str, bytes]:
    model = byte_level_json((GPT2,))["model"]
    vocab = {**model["vocab"], **{text: 400 + place for place, text in enumerate(specials)}}
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    return {"vocab.json": json.dumps(vocab).encode(), "merges.txt": f"#version: 0.2\n{merges}".encode()}


def opened(folder: Path, config: dict[str, Any]) -> Tokenizer:
    return load_tokenizer(converted(folder, config))


def of_library(files: Mapping[str, bytes]) -> tokenizers.Tokenizer:
    lines = files["merges.txt"].decode().splitlines()[1:]
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    library = tokenizers.Tokenizer(models.BPE(json.loads(files["vocab.json"]), merges))
    library.decoder = decoders.ByteLevel()
    return library


TEXT = "Thequick  brown, it's 12345\n\n e\u0301 \u6587\u7ae0 the fox"


@pytest.mark.parametrize(
    ("model_type", "names"),
    [("gpt2", {}), ("", {"tokenizer_class": "GPT2TokenizerFast"}), ("gpt2", {"add_prefix_space": True})],
)
def test_gpt2s_files(tmp_path: Path, model_type: str, names: dict[str, Any]) -> None:
    files, config = gpt2_files(("<|endoftext|>",)), {"model_type": model_type}
    ours = opened(folder_of(tmp_path, files, config, **names), config)
    library = of_library(files)
    prefix = names.get("add_prefix_space", False)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    assert ours.encode(TEXT) == library.encode(TEXT).ids
    assert ours.bos_id == ours.eos_id == 400 and not ours.add_bos


def test_roberta_and_qwen2(tmp_path: Path) -> None:
    files = gpt2_files(("<s>", "</s>", "<unk>", "<pad>", "<mask>"))
    library = of_library(files)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roberta = opened(folder_of(tmp_path / "r", files, {"model_type": "roberta"}), {"model_type": "roberta"})
    assert roberta.encode(TEXT) == [400, *library.encode(TEXT).ids, 401]
    assert roberta.encode("the  <mask>", parse_special=True)[-2] == 404
    assert len(roberta.encode("the  <mask>", parse_special=True)) == len(roberta.encode("the")) + 1
    files = gpt2_files(("<|endoftext|>",))
    library = of_library(files)
    split = pre_tokenizers.Split(tokenizers.Regex(PRE_TOKENIZERS["qwen2"].regexes[0]), "isolated")
    library.normalizer = normalizers.NFC()
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    qwen = opened(folder_of(tmp_path / "q", files, {"model_type": "qwen2"}), {"model_type": "qwen2"})
    assert qwen.encode(TEXT) == library.encode(TEXT).ids and qwen.eos_id == 400


BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abhiw,", "##i", "##r", "ri", "##ver", "water", "##s")


@pytest.mark.parametrize("lowercase", [True, False])
def test_vocab_txt(tmp_path: Path, lowercase: bool) -> None:
    files, config = {"vocab.txt": ("\n".join(BERT) + "\n").encode()}, {"model_type": "bert"}
    folder = folder_of(tmp_path, files, config, do_lower_case=lowercase)
    ours = opened(folder, config)
    library = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase)
    for text in ("Water, rivers W\u00e4ters", "a [MASK] b", "\u6587ab zz"):
        assert ours.encode(text, parse_special=True) == library.encode(text).ids


BROKEN: list[tuple[dict[str, bytes], dict[str, Any], type[GgufpyError], str]] = [
    ({"x.tiktoken": b"YQ== 0\nx\n"}, {"model_type": "qwen"}, FormatError, "line 2, b'x', is not a token and"),
    (
        {"x.tiktoken": b"YQ== 0\nYg== 0\n"},
        {"model_type": "qwen"},
        FormatError,
        "two tokens have the same rank",
    ),
    ({"x.tiktoken": b"YQ== 0\n"}, {"model_type": "qwen"}, FormatError, "no token for byte 0x00"),
    (
        {"x.tiktoken": rank_file({**RANKS, b"a" * 5000: 400})},
        {"model_type": "qwen"},
        FormatError,
        "token 400 has 5000 bytes",
    ),
    (
        {"x.tiktoken": rank_file(RANKS)},
        {"model_type": "new"},
        UnsupportedModelError,
        "how new cuts text is not",
    ),
    ({"x.tiktoken": rank_file(RANKS)}, {}, UnsupportedModelError, "how this model cuts text is not said"),
    ({"tekken.json": b"{}"}, {}, FormatError, "tekken.json: not Mistral's"),
    ({"tekken.json": tekken(RANKS, vocab=[1])}, {}, FormatError, "tekken.json: not Mistral's"),
    ({"tekken.json": tekken(RANKS, special_tokens=[{"rank": "1"}])}, {}, FormatError, "not Mistral's"),
    (
        {"tekken.json": tekken({**RANKS, b"zz": 7})},
        {},
        FormatError,
        "there are not 401 tokens, all different",
    ),
    ({"tekken.json": tekken(RANKS, vocab=[])}, {}, FormatError, "there are not 400 tokens, all different"),
    (
        {"tekken.json": tekken(RANKS).replace(b'_tokens": 30', b'_tokens": 99999')},
        {},
        FormatError,
        "99999 special",
    ),
    (gpt2_files(()), {"model_type": "clip"}, UnsupportedModelError, "how a tokenizer without a class cuts"),
    (
        {**gpt2_files(()), "vocab.json": b'{"a": "b"}'},
        {"model_type": "gpt2"},
        FormatError,
        "some ids are not",
    ),
    (
        {**gpt2_files(()), "merges.txt": b"a b c\n"},
        {"model_type": "gpt2"},
        FormatError,
        "line 1, 'a b c', is not",
    ),
    ({**gpt2_files(()), "merges.txt": b"\xff"}, {"model_type": "gpt2"}, FormatError, "merges.txt: not UTF-8"),
    (
        {**gpt2_files(()), "merges.txt": b"a qq\n"},
        {"model_type": "gpt2"},
        FormatError,
        "vocab.json: not a tokenizer",
    ),
    (
        {"vocab.txt": b"a\nb\n"},
        {"model_type": "bert"},
        FormatError,
        r"no line is '\[UNK\]', the unknown token",
    ),
    (
        {"vocab.txt": b"[UNK]\n"},
        {"model_type": "rwkv5"},
        UnsupportedModelError,
        "a tokenizer without a class",
    ),
    ({"vocab.json": b"{}"}, {"model_type": "gpt2"}, FormatError, "no tokenizer there, as tokenizer.json"),
]


@pytest.mark.parametrize(("files", "config", "error", "message"), BROKEN)
def test_broken_files(
    tmp_path: Path, files: dict[str, bytes], config: dict[str, Any], error: type[GgufpyError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_vocabulary(folder_of(tmp_path, files, config, eos_token="!"), config)
