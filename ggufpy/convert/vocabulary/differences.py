"""Where other programs read a vocabulary otherwise than ggufpy: they do not know our own keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ggufpy.convert.vocabulary.pre_tokenizer import steps_of
from ggufpy.tokenizers.special import (
    FUSE_UNKNOWN_KEY,
    IGNORE_MERGES_KEY,
    LSTRIP_KEY,
    MERGES_KEY,
    NORMALIZER_KEY,
    ORDINARY_KEY,
    PRE_TOKENIZER_KEY,
    RSTRIP_KEY,
    SINGLE_WORD_KEY,
)

_CUTTING = {"llama": "SentencePiece", "gemma4": "Gemma 4", "t5": "SentencePiece", "bert": "BERT"}
_FLAGS = {"lstrip": LSTRIP_KEY, "rstrip": RSTRIP_KEY, "single_word": SINGLE_WORD_KEY}


def differences(metadata: Mapping[str, Any]) -> list[str]:
    """A sentence for whoever converts; none where other programs do the same."""
    each = list(_differences(metadata))
    if not each:
        return []
    listed = " and ".join([", ".join(each[:-1]), each[-1]] if each[1:] else each)
    return [f"tokenizer: ggufpy's is exact; other programs {listed}, so some texts get other tokens there"]


def _differences(metadata: Mapping[str, Any]) -> Iterator[str]:
    kind = metadata["tokenizer.ggml.model"]
    if PRE_TOKENIZER_KEY in metadata:
        yield f"cut texts as {_CUTTING.get(kind) or repr(metadata['tokenizer.ggml.pre'])} does"
    if NORMALIZER_KEY in metadata:
        names = [str(step.get("type")) for step in steps_of(json.loads(metadata[NORMALIZER_KEY]))]
        yield f"do not normalize as it does ({', '.join(names)})"
    if IGNORE_MERGES_KEY in metadata:
        yield "merge words that are tokens" if metadata[IGNORE_MERGES_KEY] else "keep words that are tokens"
    if MERGES_KEY in metadata:
        yield "merge any neighbours that make a token"
    if FUSE_UNKNOWN_KEY in metadata:
        yield "make one token of unknown neighbours"
    flags = [name for name, key in _FLAGS.items() if key in metadata]
    if flags:
        yield f"do without the flags of added tokens ({', '.join(flags)})"
    if ORDINARY_KEY in metadata:
        texts = [metadata["tokenizer.ggml.tokens"][id] for id in metadata[ORDINARY_KEY]]
        yield f"take {', '.join(texts)} in a text for special"
