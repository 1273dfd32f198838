"""`tokenizer.ggml.model` "t5": SentencePiece's unigram model, of T5 and XLM-RoBERTa.

Source: Kudo, "Subword Regularization" (arXiv 1804.10959); numbers as SentencePiece has them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ggufpy.errors import TokenizerError
from ggufpy.tokenizers.charsmap import sentencepiece_normalizer
from ggufpy.tokenizers.cutting import Cutter, Described, Uncut
from ggufpy.tokenizers.escaped import EscapedTokenizer
from ggufpy.tokenizers.libraries import normalizer
from ggufpy.tokenizers.pieces import Pieces
from ggufpy.tokenizers.special import NORMALIZER_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.types import TokenType
from ggufpy.tokenizers.values import KEY, flag_of, text_of
from ggufpy.tokenizers.vocabulary import Defaults, Vocabulary, read_vocabulary

DEFAULTS = Defaults(eos=1, unknown=2, add_eos=True)
CHARSMAP_KEY, MERGE_SPACES_KEY = KEY + "precompiled_charsmap", KEY + "remove_extra_whitespaces"

# An unknown character is this much less likely than the least likely token: SentencePiece's kUnkPenalty.
_UNKNOWN_PENALTY = 10.0


class UnigramTokenizer(EscapedTokenizer):
    """The tokens with the highest sum of scores.

    A space starts a text, and each stretch behind an added token, where the file says so.

    A normalizer or pre-tokenizer that the file describes is of a checkpoint with a tokenizer.json, where sums
    are f64; SentencePiece's are f32.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """Build from a file's metadata; raises TokenizerError."""
        if metadata.get(KEY + "scores") is None:
            raise TokenizerError(f"{KEY}scores: missing, so no token is likelier than another; convert again")
        vocabulary = read_vocabulary(metadata, DEFAULTS)
        if vocabulary.unknown_id is None:
            raise TokenizerError(f"{KEY}unknown_token_id: names no token; convert the model again")
        described, words = text_of(metadata, NORMALIZER_KEY), text_of(metadata, PRE_TOKENIZER_KEY)
        is_described = described is not None or words is not None
        if is_described:
            super().__init__(vocabulary, normalizer(described, NORMALIZER_KEY))
        else:
            super().__init__(vocabulary, _normalizer(metadata, vocabulary))
        self._cutter: Cutter = Uncut() if words is None else Described(words)
        usable = vocabulary.types == TokenType.NORMAL
        unknown = float(vocabulary.scores[usable].min(initial=np.inf)) - _UNKNOWN_PENALTY
        self._pieces = Pieces(
            vocabulary.tokens,
            np.where(usable, vocabulary.scores, -np.inf),
            unknown=vocabulary.unknown_id,
            unknown_score=unknown if is_described else float(np.float32(unknown)),
            byte=vocabulary.byte_ids(),
            floats=not is_described,
        )

    def _encode_text(self, text: str, is_first: bool) -> list[int]:
        return self._pieces.likeliest(self._cutter.cut(text, is_first))


def _normalizer(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> Callable[[str], str]:
    """SentencePiece's, with the file's map of characters."""
    return sentencepiece_normalizer(
        _charsmap(metadata),
        add_prefix=vocabulary.add_space_prefix,
        merge_spaces=flag_of(metadata, MERGE_SPACES_KEY, False),
        key=CHARSMAP_KEY,
    )


def _charsmap(metadata: Mapping[str, Any]) -> bytes:
    """The map of characters, which files have as numbers with or without signs; empty where there is none."""
    values = metadata.get(CHARSMAP_KEY, [])
    try:
        return array("b" if min(values, default=0) < 0 else "B", values).tobytes()
    except (TypeError, ValueError, OverflowError) as exc:
        raise TokenizerError(f"{CHARSMAP_KEY}: not a list of bytes; convert the model again") from exc
