"""Our own keys for what GGUF cannot say about tokens: flags of added ones, and which are ordinary."""

from __future__ import annotations

from collections.abc import Mapping

from ggufpy.convert.vocabulary.normalizing import normalizer_steps
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import AddedToken, TokenizerFiles
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.special import (
    ALWAYS_SHOWN,
    BY_TEXT,
    END_OF_GENERATION,
    LSTRIP_KEY,
    NORMALIZED_KEY,
    ORDINARY_KEY,
    RSTRIP_KEY,
    SINGLE_WORD_KEY,
)
from ggufpy.tokenizers.types import TokenType

_KNOWN = frozenset(
    (*END_OF_GENERATION, *ALWAYS_SHOWN, *(text for texts in BY_TEXT.values() for text in texts))
)


def token_keys(
    files: TokenizerFiles, table: VocabularyTable, special: Mapping[str, Value]
) -> dict[str, Value]:
    """The keys that list tokens, as far as there are such tokens; special: the keys that name single ones."""
    added = {id: token for id, token in files.added_tokens().items() if id < table.size}
    keys = {
        LSTRIP_KEY: [id for id, token in added.items() if token.lstrip],
        RSTRIP_KEY: [id for id, token in added.items() if token.rstrip],
        SINGLE_WORD_KEY: [id for id, token in added.items() if token.single_word],
        NORMALIZED_KEY: _normalized(files, added),
        ORDINARY_KEY: _ordinary(table, special),
    }
    return {key: sorted(ids) for key, ids in keys.items() if ids}


def _normalized(files: TokenizerFiles, added: Mapping[int, AddedToken]) -> list[int]:
    """Those that are looked for in normalized text, after all others, if that makes a difference."""
    ids = [id for id, token in added.items() if token.normalized]
    return ids if normalizer_steps(files.tokenizer) or len(ids) < len(added) else []


def _ordinary(table: VocabularyTable, special: Mapping[str, Value]) -> list[int]:
    """Trained tokens that readers would take for special ones by their texts, though nothing names them."""
    named = [id for key, id in special.items() if key.endswith("_token_id")]
    rows = zip(table.tokens, table.types, strict=True)
    known = [id for id, (text, type) in enumerate(rows) if text in _KNOWN and type == TokenType.NORMAL]
    return [id for id in known if id not in named]
