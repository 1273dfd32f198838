"""WordPiece: ids of llama.cpp's vocabulary, and of the library that checkpoints are used with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle, needs_oracle
from tiny_tokenizers import write_checkpoint

from ggufpy.convert.vocabulary.reading import check_vocabulary, read_vocabulary
from ggufpy.errors import TokenizerError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import load_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdehlnorstuw"
PIECES = [*LETTERS, *(f"##{each}" for each in LETTERS), *"!?.,水9", "river", "##s", "un", "##want", "##ed"]
TEXTS = st.text(st.sampled_from([*LETTERS, *"RÉéßü!., \t\n水9\u0301\u200d\x00😀\u2581"]), max_size=40)


def tiny() -> dict[str, Any]:
    """A tokenizer.json as BERT's."""
    pieces = dict.fromkeys([*SPECIAL, *PIECES])
    vocab = {text: id for id, text in enumerate(pieces)}
    added = [
        {"id": id, "content": text, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for id, text in enumerate(SPECIAL)
    ]
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {**normalizer, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {**model, "max_input_chars_per_word": 100, "vocab": vocab},
    }


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_checkpoint(tmp_path_factory.mktemp("wpm"), tiny())
    metadata = read_vocabulary(folder, {})
    check_vocabulary(folder, metadata)
    return dict(metadata)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_ids_are_the_checkpoints(metadata: dict[str, Any], text: str) -> None:
    want = tokenizers.Tokenizer.from_str(json.dumps(tiny())).encode(text, add_special_tokens=False).ids
    assert load_tokenizer(metadata).encode(text, add_special=False) == want


def test_texts_stand_between_cls_and_sep(metadata: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(metadata)
    river, s = (metadata["tokenizer.ggml.tokens"].index(text) for text in ("\u2581river", "s"))
    assert tokenizer.encode("Rivers") == [2, river, s, 3]
    assert tokenizer.encode("[MASK]", add_special=False, parse_special=True) == [4]
    assert tokenizer.decode([river, s]) == b" rivers"


def test_tokens_that_are_not_there(tmp_path: Path, metadata: dict[str, Any]) -> None:
    folder = write_checkpoint(tmp_path, tiny(), {"cls_token": "<s>"})
    with pytest.raises(TokenizerError, match="<s> is not in the vocabulary; name cls_token"):
        read_vocabulary(folder, {})
    with pytest.warns(UserWarning, match="unknown_token_id"), pytest.raises(TokenizerError, match="no token"):
        load_tokenizer({**metadata, "tokenizer.ggml.unknown_token_id": 999})


@needs_oracle
def test_ids_are_llama_cpps(shared: Path) -> None:
    path = shared / "conformance" / "vocab" / "ggml-vocab-bert-bge.gguf"
    texts = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    wanted = [[int(id) for id in line.split()] for line in Path(f"{path}.out").read_text().split("\n")]
    with GGUFFile.open(path) as file, Oracle(path, vocab_only=True) as oracle:
        tokenizer = load_tokenizer(file.metadata)
        assert [tokenizer.encode(text, add_special=False) for text in texts] == wanted[: len(texts)]
        for text in ("", "Hello, Wörld! [MASK] 水", " two  rivers\n", "[CLS]x[SEP]"):
            assert tokenizer.encode(text, parse_special=True) == oracle.tokenize(text, parse_special=True)
