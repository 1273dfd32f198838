"""`params.json`: what Mistral and Meta write in place of `config.json`, beside `consolidated` weights.

Tensors have names of their own there, and pairs that turn together are neighbours already. Source: the
reference implementations of both (mistral-inference args.py, llama3 model.py), and what Hugging Face's
conversions of their models say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.json_files import read_json
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource

# Their names, and those of config.json.
_KEYS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "rope_theta": "rope_theta",
    "sliding_window": "sliding_window",
    "max_position_embeddings": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "tied_embeddings": "tie_word_embeddings",
}
_EXPERTS = {"num_experts": "num_local_experts", "num_experts_per_tok": "num_experts_per_tok"}
_DEFAULTS = {"rope_theta": 10000.0, "tie_word_embeddings": False}
_META = {"multiple_of", "ffn_dim_multiplier"}  # by which its code finds the width that the tensors have

# Nothing is said of the context of most: Mistral 7B's, Llama 2's, and that of Llama 3, which says rope_theta.
_CONTEXT, _LLAMA_2, _LLAMA_3 = 32768, 4096, 8192

_NEEDED = ("dim", "n_layers", "n_heads", "norm_eps")
# Sizes that may be left out, as -1 or as what others are computed from.
_ROWS = {"intermediate_size": "layers.0.feed_forward.w1.weight", "vocab_size": "tok_embeddings.weight"}
_IGNORED = {"causal"}

_NAMES = {
    "tok_embeddings": "model.embed_tokens",
    "norm": "model.norm",
    "output": "lm_head",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.gate": "block_sparse_moe.gate",
}
_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.weight")
_EXPERT = re.compile(r"feed_forward\.experts\.(\d+)\.(w[123])")


def read_params(path: Path, tensors: Mapping[str, TensorSource]) -> dict[str, Any]:
    """The configuration as `config.json` would say it; tensors: the weights under their own names.

    Raises FormatError, and UnsupportedModelError for keys that are not known.
    """
    params = {key: value for key, value in read_json(path).items() if value is not None}
    experts = params.pop("moe", {})
    unknown = [key for key in params if key not in _KEYS.keys() | _META | _IGNORED]
    if not isinstance(experts, dict) or unknown or not experts.keys() <= _EXPERTS.keys():
        # Llama 3.1 and 3.2 have use_scaled_rope, and factors of 8 and 32 that are said nowhere.
        problem = f"ggufpy does not know its {', '.join(unknown) or 'moe':.200}"
        raise UnsupportedModelError(f"{path}: {problem}; download the model with its config.json")
    for key in (*_NEEDED, *params):
        value = params.get(key)
        if not isinstance(value, int | float):
            raise FormatError(f"{path}: {key} is {value!r:.40}, it must be a number; download it again")
    config = {theirs: params[ours] for ours, theirs in _KEYS.items() if ours in params}
    config |= {theirs: experts[ours] for ours, theirs in _EXPERTS.items() if ours in experts}
    for key, name in _ROWS.items():
        if config.get(key, -1) == -1 and name in tensors:
            config[key], *_ = (*tensors[name].shape, 0)
    is_meta = bool(params.keys() & _META)
    kind = "Llama" if is_meta else "Mixtral" if experts else "Mistral"
    context = (_LLAMA_3 if "rope_theta" in params else _LLAMA_2) if is_meta else _CONTEXT
    classes = {"architectures": [f"{kind}ForCausalLM"], "model_type": kind.lower()}
    return {**_DEFAULTS, "max_position_embeddings": context, **config, **classes}


def renamed(tensors: Mapping[str, TensorSource]) -> dict[str, TensorSource]:
    """The tensors under Hugging Face's names, but for queries and keys, whose rows have another order."""
    return {_name(name): source for name, source in tensors.items() if name != "rope.freqs"}


def _name(name: str) -> str:
    layer = _LAYER.fullmatch(name)
    if layer is None:
        stem = name.removesuffix(".weight")
        return f"{_NAMES[stem]}.weight" if stem in _NAMES else name
    expert = _EXPERT.fullmatch(layer[2])
    if expert is not None:
        return f"model.layers.{layer[1]}.block_sparse_moe.experts.{expert[1]}.{expert[2]}.weight"
    theirs = _NAMES.get(layer[2])
    return name if theirs is None else f"model.layers.{layer[1]}.{theirs}.weight"
