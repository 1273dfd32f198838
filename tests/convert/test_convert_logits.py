"""A converted checkpoint computes, in llama.cpp and in ggufpy, what transformers computes from it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hf_llama
import numpy as np
import pytest
import tiny
from conversion import LLAMA3, logits
from oracle import Oracle
from random_llama import nmse
from tiny import CONFIG

from ggufpy.convert.pipeline import convert_checkpoint

YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
MINISTRAL = YARN | {"rope_type": "yarn", "rope_theta": 1e4, "mscale": 1.0, "mscale_all_dim": 1.0}
BETAS = {"beta_fast": 8, "beta_slow": 2}
SCALINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one KV head": {"num_key_value_heads": 1},
    "no GQA": {"num_key_value_heads": 4},
    "head size": {"head_dim": 32},
    "tied": {"tie_word_embeddings": True},
    "mistral": {"architectures": ["MistralForCausalLM"], "rope_theta": 1e6},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama3": {"rope_scaling": LLAMA3},
    "yarn": {"rope_scaling": {"type": "yarn", **YARN}},
    "yarn, attention factor": {"rope_scaling": {"rope_type": "yarn", "attention_factor": 1.5, **YARN}},
    "yarn, mscale": {"rope_scaling": {"rope_type": "yarn", "mscale": 2.0, "mscale_all_dim": 0.5, **YARN}},
    "yarn, betas": {"rope_scaling": {"rope_type": "yarn", **BETAS, **YARN}},
    "ministral": {
        "architectures": ["Ministral3ForCausalLM"],
        "rope_parameters": MINISTRAL
        | BETAS
        | {"llama_4_scaling_beta": 0.5, "original_max_position_embeddings": 16},
    },
    "ministral, mscale": {
        "architectures": ["Ministral3ForCausalLM"],
        "rope_parameters": MINISTRAL | BETAS | {"llama_4_scaling_beta": 0.1, "mscale_all_dim": 2.0},
    },
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("biases", [False, True], ids=["", "biases"])
def test_logits(tmp_path: Path, shipped_checkpoint: Path, name: str, biases: bool) -> None:
    config = CONFIG | SCALINGS[name]
    tiny.checkpoint(tmp_path, shipped_checkpoint, config)
    weights = {
        name: x / np.float32(x.shape[-1] ** 0.5) if x.ndim > 1 else x / 4 + ("norm" in name)
        for name, x in tiny.weights(config, biases=biases).items()
    }
    tiny.save(tmp_path, {name: x.astype(np.float32) for name, x in weights.items()})
    (path,) = convert_checkpoint(tmp_path, outtype="f32")
    tokens = np.random.default_rng(7).integers(3, 4096, 48).tolist()
    want = hf_llama.forward(weights, config, tokens)
    assert nmse(logits(path, tokens), want) < 1e-9
    # llama.cpp reads the betas for mistral3 only; for llama it computes with their defaults.
    if find_spec("xllamacpp") and name != "yarn, betas":
        with Oracle(path, n_ctx=64, kv_f32=True) as oracle:
            assert nmse(oracle.logits(tokens), want) < 1e-9
