"""Tokens that llama.cpp knows by their texts: their types, and those at which generation ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from ggufpy.tokenizers.special import (
    ALWAYS_SHOWN,
    ANSWER_ENDS,
    BY_TEXT,
    CALL_ENDS,
    END_OF_GENERATION,
    ENDING_PARTS,
    PART_END,
    S_END,
    S_IS_TEXT,
)
from ggufpy.tokenizers.tokens import Tokens
from ggufpy.tokenizers.types import TokenType
from ggufpy.tokenizers.values import KEY, id_of


def mark_known(
    metadata: Mapping[str, Any], tokens: Tokens, types: NDArray[Any], ordinary: frozenset[int]
) -> set[int]:
    """Give tokens known by their texts the types they should have; returns those at which generation ends.

    ordinary: the tokens that are left as they are. Source: llama.cpp src/llama-vocab.cpp,
    llama_vocab::impl::load.
    """
    ending = set()
    for part, texts in BY_TEXT.items():
        known = next(iter(_find(tokens, texts, ordinary).values()), None)
        id = id_of(metadata, part, len(types), known, needed=part in ENDING_PARTS and known is None)
        if id is not None and id != metadata.get(f"{KEY}{part}_token_id"):
            types[id] = TokenType.CONTROL
        if id is not None and part in ENDING_PARTS:
            ending.add(id)
    found = _find(tokens, END_OF_GENERATION, ordinary)
    for id in found.values():
        types[id] = TokenType.CONTROL
    for id in _find(tokens, ALWAYS_SHOWN, ordinary).values():
        types[id] = TokenType.USER_DEFINED
    ending |= set(found.values())
    if PART_END in found and CALL_ENDS & found.keys() and ANSWER_ENDS & found.keys():
        ending.discard(found[PART_END])
        types[found[PART_END]] = TokenType.USER_DEFINED
    if S_END in found and S_IS_TEXT & {tokens[id] for id in ending}:
        ending.discard(found[S_END])
        types[found[S_END]] = TokenType.NORMAL
    return ending


def _find(tokens: Tokens, texts: Iterable[str], ordinary: frozenset[int]) -> dict[str, int]:
    """Those of `texts` that are tokens, with their ids."""
    found = {text: tokens.find(text) for text in texts}
    return {text: id for text, id in found.items() if id is not None and id not in ordinary}
