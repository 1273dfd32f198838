"""Unigram vocabularies of tokenizer.json: T5's, XLM-RoBERTa's, ALBERT's.

Keys and scores are those of llama.cpp's converter, which has them from SentencePiece's model. How texts are
normalized and cut is in our own keys too: `tokenizers` does it in steps of its own, with other results.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import tokenizers

from ggufpy.convert.vocabulary.normalizing import normalizer_key, normalizer_steps
from ggufpy.convert.vocabulary.pre_tokenizer import NO_STEPS
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import UnsupportedModelError
from ggufpy.tokenizers.escaped import SPACE
from ggufpy.tokenizers.libraries import errors_of_rust
from ggufpy.tokenizers.special import PRE_TOKENIZER_KEY
from ggufpy.tokenizers.types import BYTE, TokenType


def read_unigram_json(files: TokenizerFiles, encoder: tokenizers.Tokenizer) -> VocabularyTable:
    """The vocabulary; raises UnsupportedModelError for one without an unknown token."""
    model = files.tokenizer["model"]
    trained: Sequence[tuple[str, float]] = model["vocab"]
    table = VocabularyTable("t5", "default", files.vocab_size(range(len(trained))))
    table.unknown_id = model.get("unk_id")
    if table.unknown_id is None:
        raise UnsupportedModelError(f"{files.path}: unigram without unk_id, which GGUF cannot express")
    for id, (text, score) in enumerate(trained):
        is_byte = model.get("byte_fallback") and BYTE.fullmatch(text)
        table.put(id, text, TokenType.BYTE if is_byte else TokenType.NORMAL, score)
    table.types[table.unknown_id] = TokenType.UNKNOWN
    table.put_added(files.added_tokens())
    for id, (_, score) in enumerate(trained):
        table.scores[id] = score
    with errors_of_rust(f"{files.path}: not a tokenizer", "download it again"):
        first, one, two = (
            encoder.encode(text, add_special_tokens=False).tokens for text in ("a", "a b", "a  b")
        )
    table.add_space_prefix = any(token.startswith(SPACE) for token in first[:1])
    table.merge_spaces = one == two
    maps = [step for step in normalizer_steps(files.tokenizer) if step.get("type") == "Precompiled"]
    if len(maps) == 1:
        table.charsmap = base64.b64decode(maps[0]["precompiled_charsmap"] or "")
    block = files.tokenizer.get("pre_tokenizer") or NO_STEPS
    table.own_keys = normalizer_key(files.tokenizer)
    table.own_keys[PRE_TOKENIZER_KEY] = json.dumps(block, ensure_ascii=False)
    return table
