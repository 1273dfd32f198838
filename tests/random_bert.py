"""Tiny random BERT files; their vocabulary puts a token around each text, and two between those of a pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import random_llama
from numpy.typing import NDArray

from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import write_gguf

WIDTH, INNER, PLACES, VOCAB = 64, 96, 80, 128
NONE, MEAN, CLS, LAST, RANK = range(5)
START, END = 1, 2
Arrays = dict[str, NDArray[np.float32]]


def arrays() -> Arrays:
    rng = np.random.default_rng(3)

    def random(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, np.float32) * np.float32(1.5 / shape[-1] ** 0.5)

    result = {
        "token_embd.weight": rng.standard_normal((VOCAB, WIDTH), np.float32),
        "token_types.weight": random(2, WIDTH),
        "position_embd.weight": random(PLACES, WIDTH),
    }
    names = ["token_embd_norm"]
    for layer in range(2):
        blk = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            result[f"{blk}{name}.weight"], result[f"{blk}{name}.bias"] = random(WIDTH, WIDTH), random(WIDTH)
        result[f"{blk}ffn_up.weight"], result[f"{blk}ffn_up.bias"] = random(INNER, WIDTH), random(INNER)
        result[f"{blk}ffn_down.weight"], result[f"{blk}ffn_down.bias"] = random(WIDTH, INNER), random(WIDTH)
        names += [f"{blk}attn_output_norm", f"{blk}layer_output_norm"]
    for name in names:
        result[f"{name}.weight"], result[f"{name}.bias"] = 1 + random(WIDTH), random(WIDTH)
    return result


HEADS: dict[str, tuple[tuple[int, ...], ...]] = {
    "": (),
    "a projection": ((3, WIDTH),),
    "two layers": ((3, WIDTH), (WIDTH, WIDTH)),
    "one label": ((1, WIDTH), (WIDTH, WIDTH)),
}


def write(path: Path, pooling: int, head: str = "", **keys: Value) -> Path:
    """A model that pools so; head: of HEADS. keys: of the architecture."""
    metadata: dict[str, Value | Typed] = {
        "general.architecture": "bert",
        "bert.context_length": PLACES,
        "bert.embedding_length": WIDTH,
        "bert.block_count": 2,
        "bert.feed_forward_length": INNER,
        "bert.attention.head_count": 4,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        **{f"bert.{key}": value for key, value in keys.items()},
        **random_llama.vocabulary(VOCAB),
        "tokenizer.ggml.bos_token_id": START,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.seperator_token_id": END,
        **dict.fromkeys((f"tokenizer.ggml.add_{part}_token" for part in ("bos", "eos", "sep")), True),
    }
    found = arrays()
    for name, shape in zip(("cls.output", "cls"), HEADS[head], strict=False):
        values = np.random.default_rng(len(name)).standard_normal((shape[0], shape[1] + 1), np.float32)
        values *= np.float32(0.1)
        found |= {f"{name}.weight": values[:, 1:], f"{name}.bias": values[:, 0]}
    write_gguf(path, metadata, [random_llama.source(name, array) for name, array in found.items()])
    return path
