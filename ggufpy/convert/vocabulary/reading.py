"""From a checkpoint's tokenizer to the tokenizer.* keys of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggufpy.convert.vocabulary.added import token_keys
from ggufpy.convert.vocabulary.chat_templates import chat_templates
from ggufpy.convert.vocabulary.check import check_vocabulary
from ggufpy.convert.vocabulary.other_files import no_tokenizer, open_files
from ggufpy.convert.vocabulary.rwkv import read_rwkv, rwkv_path, rwkv_special
from ggufpy.convert.vocabulary.sentencepiece_model import open_sentencepiece, piece_scores, read_sentencepiece
from ggufpy.convert.vocabulary.special_tokens import check_template, special_tokens
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_json import open_encoder, read_tokenizer_json
from ggufpy.convert.vocabulary.word_pieces import word_piece_tokens
from ggufpy.errors import TokenizerError
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS
from ggufpy.tokenizers.unigram import CHARSMAP_KEY, MERGE_SPACES_KEY

_ADD_BOS, _ADD_EOS = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"

__all__ = ["check_vocabulary", "read_vocabulary"]


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    """Every tokenizer.* key for the checkpoint in `folder`, in llama.cpp's order.

    config is its config.json. tokenizer.json counts before all other files, as in transformers. Raises
    FormatError for damaged files, UnsupportedModelError for tokenizers that GGUF cannot express,
    TokenizerError for a vocabulary that does not fit the model.
    """
    files = open_files(folder, config)
    processor = open_sentencepiece(files)
    encoder = open_encoder(files) if files.tokenizer else None
    if encoder:
        table = read_tokenizer_json(files, encoder, piece_scores(processor))
    elif processor:
        table = read_sentencepiece(files, processor)
    elif path := rwkv_path(folder):
        table = read_rwkv(files, path)
        return {**_table(table, None), **rwkv_special(table), **chat_templates(files)}
    else:
        raise no_tokenizer(folder)
    if table.kind == "bert" and encoder:
        special = word_piece_tokens(files, encoder, table)
        return {**_table(table, None), **special, **token_keys(files, table, special), **table.own_keys}
    adds_bos = table.kind in ("llama", "gemma4") or (
        table.pre in PRE_TOKENIZERS and PRE_TOKENIZERS[table.pre].add_bos
    )
    special = special_tokens(files, encoder, table.tokens, adds_bos)
    if special.get(_ADD_BOS) and "tokenizer.ggml.bos_token_id" not in special and table.kind == "gpt2":
        problem = "add_bos_token is true, but no bos_token is named; name it in tokenizer_config.json"
        raise TokenizerError(f"{folder}: {problem}")
    if table.kind == "t5" and encoder:
        special |= {flag: special.get(flag, False) for flag in (_ADD_BOS, _ADD_EOS)}
    if table.unknown_id is not None:
        special["tokenizer.ggml.unknown_token_id"] = table.unknown_id
    templates = chat_templates(files)
    check_template(files, table.tokens, templates)
    columns = _table(table, None if encoder else files.tokenizer_config.get("add_prefix_space"))
    return {**columns, **special, **token_keys(files, table, special), **table.own_keys, **templates}


def _table(table: VocabularyTable, add_space_prefix: Any) -> dict[str, Value | Typed]:
    result: dict[str, Value | Typed] = {}
    if table.kind in ("llama", "gemma4"):
        if isinstance(add_space_prefix, bool):
            result["tokenizer.ggml.add_space_prefix"] = add_space_prefix
        elif not table.add_space_prefix:
            result["tokenizer.ggml.add_space_prefix"] = False
    elif table.kind == "gpt2" and table.add_space_prefix:
        result["tokenizer.ggml.add_space_prefix"] = True
    result["tokenizer.ggml.model"] = table.kind
    if table.pre:
        result["tokenizer.ggml.pre"] = table.pre
    result["tokenizer.ggml.tokens"] = table.tokens
    if table.kind in ("llama", "gemma4", "t5"):
        result["tokenizer.ggml.scores"] = table.scores
    result["tokenizer.ggml.token_type"] = table.types
    if table.kind == "t5":
        result |= _unigram(table)
    if table.kind in ("gpt2", "gemma4"):
        result["tokenizer.ggml.merges"] = table.merges or Typed([], ValueType.STRING)
    return result


def _unigram(table: VocabularyTable) -> dict[str, Value | Typed]:
    """What becomes of a text before it is cut, as SentencePiece says it."""
    charsmap = {CHARSMAP_KEY: Typed(list(table.charsmap), ValueType.U8)} if table.charsmap else {}
    return {
        "tokenizer.ggml.add_space_prefix": table.add_space_prefix,
        MERGE_SPACES_KEY: table.merge_spaces,
        **charsmap,
    }
