"""The vocabulary of a GGUF file: read from its metadata, checked, with llama.cpp's defaults filled in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import TokenizerError
from ggufpy.gguf.metadata import strings_of
from ggufpy.tokenizers.known import mark_known
from ggufpy.tokenizers.special import (
    ADDED_KEY,
    END_KEY,
    LSTRIP_KEY,
    NORMALIZED_KEY,
    ORDINARY_KEY,
    RSTRIP_KEY,
    SINGLE_WORD_KEY,
)
from ggufpy.tokenizers.tokens import Tokens
from ggufpy.tokenizers.types import BYTE, TokenType
from ggufpy.tokenizers.values import KEY, flag_of, id_of, ids_of, numbers_of

_SPECIAL = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What llama.cpp assumes for a kind of tokenizer where the file says nothing.

    ends_with_sep: it is the separator that ends a text.
    """

    bos: int | None = None
    eos: int | None = None
    unknown: int | None = None
    sep: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    ends_with_sep: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Tokens with their types and scores, and the ids that have a meaning.

    types, i32[tokens], may differ from the file's where llama.cpp corrects them. scores: f64[tokens].
    last_id: what ends a text if add_eos says so. added_ids: ordinary tokens that are found as added ones are.
    lstrip_ids, rstrip_ids, single_word_ids, normalized_ids: of added tokens with these flags of `tokenizers`.
    """

    tokens: Tokens
    types: NDArray[np.int32]
    scores: NDArray[np.float64]
    bos_id: int | None
    eos_id: int | None
    last_id: int | None
    unknown_id: int | None
    eog_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    added_ids: frozenset[int]
    lstrip_ids: frozenset[int]
    rstrip_ids: frozenset[int]
    single_word_ids: frozenset[int]
    normalized_ids: frozenset[int]

    def ids_of_types(self, types: Collection[TokenType]) -> list[int]:
        """The tokens of these types."""
        ids: list[int] = np.flatnonzero(np.isin(self.types, list(types))).tolist()
        return ids

    def byte_ids(self) -> NDArray[np.int32]:
        """The token that is a byte, i32[256]; -1 for none."""
        result = np.full(256, -1, np.int32)
        for id in self.ids_of_types({TokenType.BYTE}):
            result[int(self.tokens[id][3:5], 16)] = id
        return result


def read_vocabulary(metadata: Mapping[str, Any], defaults: Defaults) -> Vocabulary:
    """Read and check the vocabulary in a file's metadata; raises TokenizerError for what cannot be used."""
    tokens = _tokens(metadata)
    types, count = _types(metadata, tokens), len(tokens)
    add_bos = flag_of(metadata, KEY + "add_bos_token", defaults.add_bos)
    add_eos = flag_of(metadata, KEY + "add_eos_token", defaults.add_eos)
    eos = id_of(metadata, "eos", count, defaults.eos, needed=True)
    eog = mark_known(metadata, tokens, types, ids_of(metadata, ORDINARY_KEY, count))
    sep = id_of(metadata, "seperator", count, defaults.sep, needed=add_eos and defaults.ends_with_sep)
    vocabulary = Vocabulary(
        tokens=tokens,
        types=types,
        scores=_scores(metadata, count),
        bos_id=id_of(metadata, "bos", count, defaults.bos, needed=add_bos),
        eos_id=eos,
        last_id=sep if defaults.ends_with_sep else eos,
        unknown_id=id_of(metadata, "unknown", count, defaults.unknown),
        eog_ids=frozenset(eog.union(() if eos is None else (eos,), ids_of(metadata, END_KEY, count))),
        add_bos=add_bos,
        add_eos=add_eos,
        add_space_prefix=flag_of(metadata, KEY + "add_space_prefix", defaults.add_space_prefix),
        added_ids=ids_of(metadata, ADDED_KEY, count),
        lstrip_ids=ids_of(metadata, LSTRIP_KEY, count) | _known_lstrip(metadata, tokens),
        rstrip_ids=ids_of(metadata, RSTRIP_KEY, count) | _known_rstrip(metadata, tokens, types),
        single_word_ids=ids_of(metadata, SINGLE_WORD_KEY, count),
        normalized_ids=ids_of(metadata, NORMALIZED_KEY, count),
    )
    for name in ("padding", "mask"):
        id_of(metadata, name, count, None)  # chat templates have them; here only to say what is wrong
    last = "seperator" if defaults.ends_with_sep else "eos"
    for flag, name, id in (("bos", "bos", vocabulary.bos_id), ("eos", last, vocabulary.last_id)):
        if getattr(vocabulary, f"add_{flag}") and id is None:
            raise TokenizerError(f"{KEY}add_{flag}_token is true, but there is no {KEY}{name}_token_id")
    return vocabulary


def _tokens(metadata: Mapping[str, Any]) -> Tokens:
    texts = strings_of(metadata, KEY + "tokens")
    if not texts:
        raise TokenizerError(f"{KEY}tokens: not a list of strings; this file has no vocabulary")
    return Tokens(texts)


def _types(metadata: Mapping[str, Any], tokens: Tokens) -> NDArray[np.int32]:
    given = numbers_of(metadata, "token_type", len(tokens), "iu")
    if given is None:
        return np.full(len(tokens), TokenType.NORMAL, np.int32)
    types = given.astype(np.int32)
    for id in np.flatnonzero(types == TokenType.BYTE).tolist():
        if not BYTE.fullmatch(tokens[id]):
            raise TokenizerError(f"{KEY}tokens: byte token {id} is {tokens[id]!r:.60}, not like '<0x0A>'")
    return types


def _scores(metadata: Mapping[str, Any], count: int) -> NDArray[np.float64]:
    given = numbers_of(metadata, "scores", count)
    scores = np.zeros(count) if given is None else given.astype(np.float64)
    if np.isnan(scores).any():
        raise TokenizerError(f"{KEY}scores: some are not numbers; convert the model again")
    return scores


def _known_lstrip(metadata: Mapping[str, Any], tokens: Tokens) -> frozenset[int]:
    """Mask tokens that swallow the spaces in front of them; files say so only by names."""
    pre, architecture = str(metadata.get(KEY + "pre", "")), str(metadata.get("general.architecture", ""))
    name = str(metadata.get("general.name", "")).lower()
    if pre in ("jina-v2-de", "jina-v2-es", "jina-v2-code") or architecture in (
        "nomic-bert-moe",
        "jina-bert-v3",
    ):
        text = "<mask>"
    elif "modern-bert" in name:
        text = "[MASK]"
    else:
        return frozenset()
    id = tokens.find(text)
    return frozenset() if id is None else frozenset((id,))


def _known_rstrip(metadata: Mapping[str, Any], tokens: Tokens, types: NDArray[np.int32]) -> frozenset[int]:
    """Phi-3's added tokens swallow the spaces behind them; its files say so only by the model's name."""
    name = str(metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    kept = {tokens.find(text) for text in ("<unk>", "<s>", "<|endoftext|>")}
    return frozenset(np.flatnonzero(np.isin(types, _SPECIAL)).tolist()) - frozenset(kept)
