"""The vocabulary of a GGUF file: read from its metadata, checked, with llama.cpp's defaults filled in."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ggufpy.errors import TokenizerError
from ggufpy.gguf.metadata import strings_of
from ggufpy.tokenizers.special import (
    ALWAYS_SHOWN,
    ANSWER_ENDS,
    BY_TEXT,
    CALL_ENDS,
    END_KEY,
    END_OF_GENERATION,
    ENDING_PARTS,
    LSTRIP_KEY,
    PART_END,
    RSTRIP_KEY,
)
from ggufpy.tokenizers.tokens import Tokens

_KEY = "tokenizer.ggml."
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")


class TokenType(IntEnum):
    """What a token is; the value is the one in the file (llama.cpp llama.h, enum llama_token_type)."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Defaults:
    """What llama.cpp assumes for a kind of tokenizer where the file says nothing."""

    bos: int | None
    eos: int | None
    unknown: int | None
    add_bos: bool
    add_space_prefix: bool


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Tokens with their types and scores, and the ids that have a meaning.

    types may differ from the file's where llama.cpp corrects them.
    """

    tokens: Tokens
    types: list[int]
    scores: list[float]
    bos_id: int | None
    eos_id: int | None
    unknown_id: int | None
    eog_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    lstrip_ids: frozenset[int]
    rstrip_ids: frozenset[int]


def read_vocabulary(metadata: Mapping[str, Any], defaults: Defaults) -> Vocabulary:
    """Read and check the vocabulary in a file's metadata; raises TokenizerError for what cannot be used."""
    tokens = _tokens(metadata)
    types = _types(metadata, tokens)
    add_bos = _flag(metadata, "add_bos_token", defaults.add_bos)
    eos = _id(metadata, "eos", len(tokens), defaults.eos, needed=True)
    eog = _mark_special(metadata, tokens, types)
    vocabulary = Vocabulary(
        tokens=tokens,
        types=types,
        scores=_scores(metadata, len(tokens)),
        bos_id=_id(metadata, "bos", len(tokens), defaults.bos, needed=add_bos),
        eos_id=eos,
        unknown_id=_id(metadata, "unknown", len(tokens), defaults.unknown),
        eog_ids=frozenset(eog.union(() if eos is None else (eos,), ids_of(metadata, END_KEY, len(tokens)))),
        add_bos=add_bos,
        add_eos=_flag(metadata, "add_eos_token", False),
        add_space_prefix=_flag(metadata, "add_space_prefix", defaults.add_space_prefix),
        lstrip_ids=ids_of(metadata, LSTRIP_KEY, len(tokens)),
        rstrip_ids=ids_of(metadata, RSTRIP_KEY, len(tokens)),
    )
    for name in ("padding", "seperator", "mask"):
        _id(metadata, name, len(tokens), None)  # chat templates have them; here only to say what is wrong
    if vocabulary.add_bos and vocabulary.bos_id is None:
        raise TokenizerError(f"{_KEY}add_bos_token is true, but there is no {_KEY}bos_token_id")
    if vocabulary.add_eos and vocabulary.eos_id is None:
        raise TokenizerError(f"{_KEY}add_eos_token is true, but there is no {_KEY}eos_token_id")
    return vocabulary


def _tokens(metadata: Mapping[str, Any]) -> Tokens:
    texts = strings_of(metadata, _KEY + "tokens")
    if not texts:
        raise TokenizerError(f"{_KEY}tokens: not a list of strings; this file has no vocabulary")
    return Tokens(texts)


def _types(metadata: Mapping[str, Any], tokens: Tokens) -> list[int]:
    types = _numbers(metadata, "token_type", len(tokens)) or [TokenType.NORMAL] * len(tokens)
    if TokenType.BYTE in types:
        for id, type in enumerate(types):
            if type == TokenType.BYTE and not _BYTE.fullmatch(tokens[id]):
                raise TokenizerError(
                    f"{_KEY}tokens: byte token {id} is {tokens[id]!r:.60}, not like '<0x0A>'"
                )
    return types


def _scores(metadata: Mapping[str, Any], count: int) -> list[float]:
    scores = _numbers(metadata, "scores", count)
    if scores is None:
        return [0.0] * count
    if any(map(math.isnan, scores)):
        raise TokenizerError(f"{_KEY}scores: some are not numbers; convert the model again")
    return scores


def _numbers(metadata: Mapping[str, Any], name: str, count: int) -> list[Any] | None:
    values = metadata.get(_KEY + name)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, (int, float)) for value in values[:1]):
        raise TokenizerError(f"{_KEY}{name}: not a list of numbers; convert the model again")
    if len(values) < count:
        raise TokenizerError(
            f"{_KEY}{name}: {len(values)} values for {count} tokens; convert the model again"
        )
    return values[:count]


def _id(
    metadata: Mapping[str, Any], name: str, count: int, default: int | None, *, needed: bool = False
) -> int | None:
    """A special token's id; a default that the vocabulary is too small for counts as none.

    An id outside the vocabulary is that default too, with a warning, as in llama.cpp; if it is needed, it
    raises TokenizerError.
    """
    key = f"{_KEY}{name}_token_id"
    default = default if default is not None and default < count else None
    if key not in metadata:
        return default
    id = metadata[key]
    if type(id) is not int:
        raise TokenizerError(f"{key} is {id!r:.60}, not a token's id; convert the model again")
    if 0 <= id < count:
        return id
    problem = f"{key} is {id}, not one of the {count} tokens"
    if needed:
        raise TokenizerError(
            f"{problem}; set it with: ggufpy quantize --override-kv {key}=int:ID IN OUT copy"
        )
    warnings.warn(f"{problem}; {'none' if default is None else default} is taken", stacklevel=5)
    return default


def ids_of(metadata: Mapping[str, Any], key: str, count: int) -> frozenset[int]:
    """A list of ids, none where the file has no such key; raises TokenizerError."""
    ids = metadata.get(key, [])
    if not isinstance(ids, list) or any(type(id) is not int or not 0 <= id < count for id in ids):
        raise TokenizerError(f"{key} is {ids!r:.60}, not a list of ids of {count} tokens; convert again")
    return frozenset(ids)


def _flag(metadata: Mapping[str, Any], name: str, default: bool) -> bool:
    value = metadata.get(_KEY + name, default)
    if not isinstance(value, bool):
        raise TokenizerError(f"{_KEY}{name} is {value!r:.60}, not true or false; convert the model again")
    return value


def _mark_special(metadata: Mapping[str, Any], tokens: Tokens, types: list[int]) -> set[int]:
    """Give tokens known by their text the types they should have; returns those at which generation ends."""
    ending = set()
    for part, texts in BY_TEXT.items():
        known = next(iter(_find(tokens, texts).values()), None)
        id = _id(metadata, part, len(types), known, needed=part in ENDING_PARTS and known is None)
        if id is not None and id != metadata.get(f"{_KEY}{part}_token_id"):
            types[id] = TokenType.CONTROL
        if id is not None and part in ENDING_PARTS:
            ending.add(id)
    found = _find(tokens, END_OF_GENERATION)
    for id in found.values():
        types[id] = TokenType.CONTROL
    for id in _find(tokens, ALWAYS_SHOWN).values():
        types[id] = TokenType.USER_DEFINED
    ending |= set(found.values())
    if PART_END in found and CALL_ENDS & found.keys() and ANSWER_ENDS & found.keys():
        ending.discard(found[PART_END])
        types[found[PART_END]] = TokenType.USER_DEFINED
    return ending


def _find(tokens: Tokens, texts: Iterable[str]) -> dict[str, int]:
    """Those of `texts` that are tokens, with their ids."""
    return {text: id for text in texts if (id := tokens.find(text)) is not None}
