"""WordPiece vocabularies of encoders, from tokenizer.json."""

from __future__ import annotations

import json
from typing import Any

import tokenizers

from ggufpy.convert.vocabulary.pre_tokenizer import NO_STEPS
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import TokenizerError, UnsupportedModelError
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.libraries import errors_of_rust
from ggufpy.tokenizers.special import NORMALIZER_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.types import TokenType
from ggufpy.tokenizers.wpm import (
    BEGIN,
    BERT_CUTTING,
    BERT_NORMALIZER,
    DEFAULTS,
    LONGEST_WORD,
    LOWERCASE_KEY,
    STRIP_ACCENTS_KEY,
)

_PARTS = {"unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask"}
_LETTERS = ("lowercase", "strip_accents")


def read_word_pieces(files: TokenizerFiles) -> VocabularyTable:
    """The vocabulary, as llama.cpp's converter writes it: U+2581 in front of what begins a word.

    Raises UnsupportedModelError for settings of the model that GGUF cannot say.
    """
    model = files.tokenizer["model"]
    continues, longest = model.get("continuing_subword_prefix"), model.get("max_input_chars_per_word")
    if not continues or longest != LONGEST_WORD:
        settings = f"continuing_subword_prefix {continues!r:.40} and max_input_chars_per_word {longest!r:.40}"
        raise UnsupportedModelError(f"{files.path}: WordPiece with {settings}, which GGUF cannot express")
    vocab: dict[str, int] = model["vocab"]
    table = VocabularyTable("bert", "bert-bge", files.vocab_size(vocab.values()))
    for text, id in vocab.items():
        piece = text.removeprefix(continues) if text.startswith(continues) else BEGIN + text
        table.put(id, piece, TokenType.NORMAL)
    table.put_added(files.added_tokens())
    table.own_keys = _normalizing(files.tokenizer.get("normalizer"))
    block = files.tokenizer.get("pre_tokenizer")
    if block != BERT_CUTTING:
        table.own_keys[PRE_TOKENIZER_KEY] = json.dumps(block or NO_STEPS, ensure_ascii=False)
    return table


def _normalizing(block: Any) -> dict[str, Value]:
    """The keys for what becomes of letters, which llama.cpp has too, or our own for anything else."""
    if not isinstance(block, dict) or {**block, **dict.fromkeys(_LETTERS)} != _BERT:
        nothing = {"type": "Sequence", "normalizers": []}
        return {NORMALIZER_KEY: json.dumps(block or nothing, ensure_ascii=False)}
    lowercase, accents = block.get("lowercase") is True, block.get("strip_accents")
    keys: dict[str, Value] = {} if lowercase else {LOWERCASE_KEY: False}
    if accents not in (None, lowercase):
        keys[STRIP_ACCENTS_KEY] = accents
    return keys


_BERT = {**BERT_NORMALIZER, **dict.fromkeys(_LETTERS)}


def word_piece_tokens(
    files: TokenizerFiles, encoder: tokenizers.Tokenizer, table: VocabularyTable
) -> dict[str, Value]:
    """The keys of the tokens that begin and end texts, and of others.

    encoder: the tokenizer at work. Raises TokenizerError if the vocabulary lacks one of the first two.
    """
    model = files.tokenizer["model"]
    ids = {text: id for id, text in enumerate(table.tokens)}
    result: dict[str, Value] = {}
    for name, part in _PARTS.items():
        text = model.get("unk_token") if name == "unk" else files.special_text(name)
        text = text or f"[{name.upper()}]"
        if text in ids:
            result[f"tokenizer.ggml.{part}_token_id"] = ids[text]
        elif part in ("cls", "seperator", "unknown"):
            raise TokenizerError(f"{files.folder}: {text} is not in the vocabulary; name {name}_token")
    cls = result["tokenizer.ggml.cls_token_id"]
    if cls != DEFAULTS.bos:
        result["tokenizer.ggml.bos_token_id"] = cls  # which is what llama.cpp reads
    with errors_of_rust(f"{files.path}: not a tokenizer", "download it again"):
        full = encoder.encode("").ids
    for flag, part, seen in (("bos", "cls", full[:1]), ("eos", "seperator", full[-1:])):
        if files.tokenizer.get("post_processor") and seen != [result[f"tokenizer.ggml.{part}_token_id"]]:
            result[f"tokenizer.ggml.add_{flag}_token"] = False
    return result
