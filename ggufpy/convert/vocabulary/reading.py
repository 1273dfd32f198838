"""From a checkpoint's tokenizer to the tokenizer.* keys of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggufpy.convert.vocabulary.added import token_keys
from ggufpy.convert.vocabulary.chat_templates import chat_templates
from ggufpy.convert.vocabulary.check import check_vocabulary
from ggufpy.convert.vocabulary.sentencepiece_model import open_sentencepiece, read_sentencepiece
from ggufpy.convert.vocabulary.special_tokens import check_template, special_tokens
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.convert.vocabulary.tokenizer_json import open_encoder, read_tokenizer_json
from ggufpy.convert.vocabulary.word_pieces import word_piece_tokens
from ggufpy.errors import FormatError, TokenizerError
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS
from ggufpy.tokenizers.unigram import CHARSMAP_KEY, MERGE_SPACES_KEY

_ADD_BOS = "tokenizer.ggml.add_bos_token"

__all__ = ["check_vocabulary", "read_vocabulary"]


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    """Every tokenizer.* key for the checkpoint in `folder`, in llama.cpp's order.

    config is its config.json. tokenizer.model counts before tokenizer.json, as in llama.cpp. Raises
    FormatError for damaged files, UnsupportedModelError for tokenizers that GGUF cannot express,
    TokenizerError for a vocabulary that does not fit the model.
    """
    files = TokenizerFiles.open(folder, config)
    processor = open_sentencepiece(files)
    encoder = open_encoder(files) if files.tokenizer else None
    if processor:
        table = read_sentencepiece(files, processor)
    elif encoder:
        table = read_tokenizer_json(files, encoder)
    else:
        raise FormatError(f"{folder}: neither tokenizer.model nor tokenizer.json there; {_remedy(folder)}")
    if table.kind == "bert":
        special = word_piece_tokens(files, table.tokens)
        return {**_table(table, None), **special, **token_keys(files, table, special), **table.own_keys}
    adds_bos = table.kind == "llama" or (table.kind == "gpt2" and PRE_TOKENIZERS[table.pre].add_bos)
    special = special_tokens(files, encoder, table.tokens, adds_bos)
    if special.get(_ADD_BOS) and "tokenizer.ggml.bos_token_id" not in special and table.kind == "gpt2":
        problem = "add_bos_token is true, but no bos_token is named; name it in tokenizer_config.json"
        raise TokenizerError(f"{folder}: {problem}")
    templates = chat_templates(files)
    check_template(files, table.tokens, templates)
    columns = _table(table, files.tokenizer_config.get("add_prefix_space"))
    return {**columns, **special, **token_keys(files, table, special), **table.own_keys, **templates}


def _remedy(folder: Path) -> str:
    """How to get a tokenizer.json, by what else is there."""
    others = ("vocab.json", "tekken.json", "*.tiktoken", "vocab.txt")
    found = next((path.name for name in others for path in folder.glob(name)), None)
    if found is None:
        return "copy the tokenizer's files from the model that it was trained from"
    how = "load it with transformers' AutoTokenizer, and save_pretrained() writes tokenizer.json"
    return f"{found} alone does not say how text is cut: {how}"


def _table(table: VocabularyTable, add_space_prefix: Any) -> dict[str, Value | Typed]:
    result: dict[str, Value | Typed] = {}
    if table.kind == "llama":
        if isinstance(add_space_prefix, bool):
            result["tokenizer.ggml.add_space_prefix"] = add_space_prefix
        elif not table.add_space_prefix:
            result["tokenizer.ggml.add_space_prefix"] = False
    result["tokenizer.ggml.model"] = table.kind
    result["tokenizer.ggml.pre"] = table.pre
    result["tokenizer.ggml.tokens"] = table.tokens
    if table.kind in ("llama", "t5"):
        result["tokenizer.ggml.scores"] = table.scores
    result["tokenizer.ggml.token_type"] = table.types
    if table.kind == "t5":
        result |= _unigram(table)
    if table.merges:
        result["tokenizer.ggml.merges"] = table.merges
    return result


def _unigram(table: VocabularyTable) -> dict[str, Value | Typed]:
    """What becomes of a text before it is cut, as SentencePiece says it."""
    charsmap = {CHARSMAP_KEY: Typed(list(table.charsmap), ValueType.U8)} if table.charsmap else {}
    return {
        "tokenizer.ggml.add_space_prefix": table.add_space_prefix,
        MERGE_SPACES_KEY: table.merge_spaces,
        **charsmap,
    }
