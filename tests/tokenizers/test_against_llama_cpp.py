"""Ids of llama.cpp's vocabularies for any text: its own, or else those of the checkpoint's own library."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from odd_texts import any_texts, conformance_file
from oracle import Oracle, needs_oracle
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, normalizers, pre_tokenizers

from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS

KEY = "tokenizer.ggml."
COUNT = 2000 if os.environ.get("GGUFPY_REAL") else 25
NAMES = (
    *("llama-spm", "phi-3", "llama-bpe", "gpt-2", "qwen2", "qwen35", "deepseek-llm", "starcoder", "falcon"),
    *("gemma-4", "nomic-bert-moe", "bert-bge"),
)
CONTROL, USER_DEFINED = 3, 4
SCHEMA: Any = sentencepiece_model_pb2
Encode = Callable[[str], list[int]]


def byte_pairs(metadata: Any) -> Encode:
    """`tokenizers`: llama.cpp has other classes of characters, and keeps bytes apart that are no tokens."""
    ids = {text: id for id, text in enumerate(metadata[KEY + "tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata[KEY + "merges"]]
    library = tokenizers.Tokenizer(models.BPE(ids, merges))
    regexes = PRE_TOKENIZERS[metadata[KEY + "pre"]].regexes
    splits = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in regexes]
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([*splits, alphabet])
    return lambda text: list(library.encode(text).ids)


def word_pieces(metadata: Any) -> Encode:
    """`tokenizers`: llama.cpp leaves characters of Hangul out that are no tokens."""
    texts = zip(metadata[KEY + "tokens"], metadata[KEY + "token_type"], strict=True)
    ids = {
        text if type != 1 else text[1:] if text[0] == "\u2581" else "##" + text: id
        for id, (text, type) in enumerate(texts)
    }
    library = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda text: list(library.encode(text).ids)


def unigrams(metadata: Any) -> Encode:
    """SentencePiece: llama.cpp, as `tokenizers`, does not round sums of scores to f32."""
    model = SCHEMA.ModelProto()
    model.trainer_spec.model_type, model.trainer_spec.unk_id = 1, metadata[KEY + "unknown_token_id"]
    model.normalizer_spec.precompiled_charsmap = bytes(metadata[KEY + "precompiled_charsmap"])
    columns = [metadata[KEY + name] for name in ("tokens", "scores", "token_type")]
    for text, score, type in zip(*columns, strict=True):
        model.pieces.add(piece=text, score=score, type=type)
    library = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return lambda text: list(library.encode(text))


LIBRARIES: dict[str, Callable[[Any], Encode]] = {
    "gpt2": byte_pairs,
    "bert": word_pieces,
    "t5": unigrams,
}


def encode_between(encode: Encode, text: str, added: dict[str, int]) -> list[int]:
    """Ids of a text with those of the added tokens in it, the longest where several begin."""
    pattern = "|".join(re.escape(token) for token in sorted(added, key=len, reverse=True))
    parts = re.split(f"({pattern})", text) if added else [text]
    return [id for part in parts for id in ([added[part]] if part in added else encode(part))]


@needs_oracle
@pytest.mark.parametrize("name", NAMES)
def test_any_text(shared: Path, name: str) -> None:
    path = conformance_file(shared, name)
    with GGUFFile.open(path) as file, Oracle(path, vocab_only=True) as oracle:
        metadata: Any = file.metadata
        tokenizer = load_tokenizer(metadata)
        texts, types = metadata[KEY + "tokens"], vars(tokenizer)["_types"]
        users = {texts[id]: id for id, type in enumerate(types) if type == USER_DEFINED}
        controls = {texts[id]: id for id, type in enumerate(types) if type == CONTROL}
        differing = []
        for text in any_texts(7, COUNT, [*users, *controls][:40]):
            text = without_swallowed(name, text)
            for special in (False, True):
                ids = tokenizer.encode(text, add_special=False, parse_special=special)
                if ids != oracle.tokenize(text, add_special=False, parse_special=special):
                    differing.append((text, special, ids))
        print(f"{name}: {len(differing)} of {2 * COUNT} differ from llama.cpp's")
        own = LIBRARIES[metadata[KEY + "model"]](metadata) if differing else None
        for text, special, ids in differing:
            assert own and ids == encode_between(own, text, users | controls if special else users), repr(
                text
            )
        check_tokens(tokenizer, oracle)


def without_swallowed(name: str, text: str) -> str:
    """Without white space that added tokens swallow: any for `tokenizers`, ASCII's for llama.cpp."""
    if name == "phi-3":
        return re.sub(r">\s+", "> ", text)
    return re.sub(r"\s+<mask>", "<mask>", text) if name == "nomic-bert-moe" else text


def check_tokens(tokenizer: Tokenizer, oracle: Oracle) -> None:
    """Compare bytes, and where generation ends."""
    for special in (False, True):
        some = range(0, tokenizer.n_vocab, 97)
        pieces = [tokenizer.token_bytes(id, special=special) for id in some]
        assert pieces == [oracle.piece(id, special) for id in some]
    assert tokenizer.eog_ids == {id for id in range(tokenizer.n_vocab) if oracle.is_eog(id)}
