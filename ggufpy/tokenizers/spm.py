"""`tokenizer.ggml.model` "llama": SentencePiece's BPE, from the pieces and scores in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.cutting import Cutter, Described, Uncut
from ggufpy.tokenizers.escaped import SPACE, EscapedTokenizer
from ggufpy.tokenizers.libraries import normalizer
from ggufpy.tokenizers.merges import Merges
from ggufpy.tokenizers.special import FUSE_UNKNOWN_KEY, MERGES_KEY, NORMALIZER_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.types import TokenType
from ggufpy.tokenizers.values import KEY, flag_of, text_of
from ggufpy.tokenizers.vocabulary import Defaults, Vocabulary, read_vocabulary

DEFAULTS = Defaults(bos=1, eos=2, unknown=0, add_bos=True, add_space_prefix=True)


class SentencePieceTokenizer(EscapedTokenizer):
    """SentencePiece's BPE; a space starts a text, and each stretch behind an added token."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError."""
        vocabulary = read_vocabulary(metadata, DEFAULTS)
        self._first = SPACE if vocabulary.add_space_prefix else ""
        described, words = text_of(metadata, NORMALIZER_KEY), text_of(metadata, PRE_TOKENIZER_KEY)
        is_described = described is not None or words is not None
        normalize = normalizer(described, NORMALIZER_KEY) if is_described else self._escape
        super().__init__(vocabulary, normalize)
        self._cutter: Cutter = Uncut() if words is None else Described(words)
        self._merges = Merges(
            vocabulary.tokens,
            rank=None if MERGES_KEY in metadata else _ranks(vocabulary),
            byte=vocabulary.byte_ids(),
            unknown=_unknown(vocabulary),
            fused=flag_of(metadata, FUSE_UNKNOWN_KEY, True),
        )
        if MERGES_KEY in metadata:
            self._merges.read(metadata, MERGES_KEY)

    def _encode_text(self, text: str, is_first: bool) -> list[int]:
        return self._merges.encode(self._cutter.cut(text, is_first))

    def _escape(self, text: str) -> str:
        return self._first + text.replace(" ", SPACE)


def _unknown(vocabulary: Vocabulary) -> int:
    id = vocabulary.unknown_id
    if id is None or vocabulary.types[id] not in (TokenType.UNKNOWN, TokenType.CONTROL):
        raise TokenizerError(f"{KEY}unknown_token_id: not an unknown or control token; convert again")
    return id


def _ranks(vocabulary: Vocabulary) -> Any:
    """The order in which tokens are made, i32[tokens]: by score; -1 for those that are never made."""
    made = vocabulary.ids_of_types({TokenType.NORMAL, TokenType.USER_DEFINED})
    ranks = np.full(len(vocabulary.tokens), -1, np.int32)
    ranks[made] = np.unique(-vocabulary.scores[made], return_inverse=True)[1]
    return ranks
