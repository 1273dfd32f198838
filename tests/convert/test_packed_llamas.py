"""InternLM 2 and Baichuan, whose classes transformers lacks: Llama's numbers, packed otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conversion import logits
from tiny import CONFIG, Floats
from tiny_checkpoints import TOKENS

from ggufpy.convert.pipeline import convert_checkpoint

HEADS, KV_HEADS, SIZE = 4, 2, 16


def internlm2(weights: dict[str, Floats]) -> dict[str, Floats]:
    renamed = {}
    for name, x in weights.items():
        for ours, theirs in (
            ("embed_tokens", "tok_embeddings"),
            ("lm_head", "output"),
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.down_proj", "feed_forward.w2"),
            ("mlp.up_proj", "feed_forward.w3"),
        ):
            name = name.replace(ours, theirs)
        renamed[name] = x
    for name in [name for name in renamed if "q_proj" in name]:
        parts = (renamed.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj"))
        q, k, v = (x.reshape(KV_HEADS, -1, SIZE, x.shape[-1]) for x in parts)
        packed = np.concatenate([q, k, v], axis=1).reshape(-1, q.shape[-1])
        renamed[name.replace("self_attn.q_proj", "attention.wqkv")] = packed
    return renamed


def baichuan(weights: dict[str, Floats]) -> dict[str, Floats]:
    packed = dict(weights)
    for name in [name for name in weights if "q_proj" in name]:
        parts = [packed.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        packed[name.replace("q_proj", "W_pack")] = np.concatenate(parts)
    return packed


def written(folder: Path, tokenizer: Path, weights: dict[str, Floats], **changed: Any) -> Path:
    tiny.write(folder, tokenizer, CONFIG | changed)
    tiny.save(folder, weights)
    return convert_checkpoint(folder, outtype="f32")[0]


def test_internlm2(tmp_path: Path, shipped_checkpoint: Path) -> None:
    weights = tiny.weights(CONFIG)
    llama = written(tmp_path / "llama", shipped_checkpoint, weights)
    changed = {"architectures": ["InternLM2ForCausalLM"]}
    packed = written(tmp_path / "packed", shipped_checkpoint, internlm2(weights), **changed)
    np.testing.assert_array_equal(logits(packed, TOKENS), logits(llama, TOKENS))


@pytest.mark.parametrize("layers", [32, 40])
def test_baichuan(tmp_path: Path, shipped_checkpoint: Path, layers: int) -> None:
    """The 13B model has no RoPE, so it computes something else."""
    sizes = {"num_hidden_layers": layers, "num_key_value_heads": HEADS}
    weights = tiny.weights(CONFIG | sizes)
    llama = written(tmp_path / "llama", shipped_checkpoint, weights, **sizes)
    changed = sizes | {"architectures": ["BaichuanForCausalLM"]}
    packed = written(tmp_path / "packed", shipped_checkpoint, baichuan(weights), **changed)
    assert np.array_equal(logits(packed, TOKENS), logits(llama, TOKENS)) == (layers == 32)
