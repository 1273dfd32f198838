"""Weights that are not numbers do not become text without a word."""

from pathlib import Path

import numpy as np
import pytest
import random_llama
from engines import append, load

from ggufpy.errors import GgufpyError

TENSORS = [
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "blk.1.ffn_down.weight",
    "output_norm.weight",
    "output.weight",
]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", TENSORS)
def test_a_weight(value: float, name: str, tmp_path: Path) -> None:
    arrays = random_llama.arrays()
    array = arrays[name]
    array.reshape(-1)[:: max(array.size // 50, 1)] = value
    engine = load(random_llama.write(tmp_path / "damaged.gguf", arrays))
    with pytest.raises(GgufpyError, match=r"damaged\.gguf: the model gives logits that are not numbers"):
        append(engine, engine.new_sequence(), random_llama.TOKENS)
    sequence = engine.new_sequence()
    with pytest.raises(GgufpyError, match="not numbers"):
        for token in random_llama.TOKENS:
            append(engine, sequence, [token], generating=True)
