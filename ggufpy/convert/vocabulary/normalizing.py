"""How a tokenizer.json changes texts before it cuts them, as our own key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ggufpy.convert.vocabulary.pre_tokenizer import steps_of
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.special import NORMALIZER_KEY


def normalizer_key(tokenizer: Mapping[str, Any]) -> dict[str, Value]:
    """The key that says what a tokenizer.json's normalizer does; none where it does nothing."""
    steps = normalizer_steps(tokenizer)
    if not steps:
        return {}
    block = steps[0] if len(steps) == 1 else {"type": "Sequence", "normalizers": steps}
    return {NORMALIZER_KEY: json.dumps(block, ensure_ascii=False)}


def normalizer_steps(tokenizer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a tokenizer.json does to texts, one after the other."""
    return list(steps_of(tokenizer.get("normalizer")))
