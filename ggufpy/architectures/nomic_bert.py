"""Nomic's BERT: rotary places, gated feed-forward networks, no biases."""

from __future__ import annotations

from typing import Any

from ggufpy.architectures._conversion import Config, Metadata, check_supported, count
from ggufpy.architectures._decoder import gated
from ggufpy.architectures._encoder import embedded, encode, encoder_keys, layer_epsilon
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("NomicBertModel",)
NOT_NEEDED = ("pooler.",)

NAMES: Names = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "emb_ln",
    "blk.{i}.attn_qkv": "encoder.layers.{i}.attn.Wqkv",
    "blk.{i}.attn_output": "encoder.layers.{i}.attn.out_proj",
    "blk.{i}.attn_output_norm": "encoder.layers.{i}.norm1",
    "blk.{i}.ffn_up": "encoder.layers.{i}.mlp.fc11",
    "blk.{i}.ffn_gate": "encoder.layers.{i}.mlp.fc12",
    "blk.{i}.ffn_down": "encoder.layers.{i}.mlp.fc2",
    "blk.{i}.layer_output_norm": "encoder.layers.{i}.norm2",
}

# What the model's own code calls the settings of transformers.
OWN = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
    "rope_theta": "rotary_emb_base",
}


def in_common_words(config: Config) -> dict[str, Any]:
    """The configuration under transformers' keys. Raises UnsupportedModelError for other networks."""
    check_supported(
        config,
        "Nomic BERT",
        causal=(False,),
        prenorm=(False,),
        use_rms_norm=(False,),
        parallel_block=(False,),
        rotary_emb_fraction=(1,),
        rotary_emb_interleaved=(False,),
        rotary_emb_scale_base=(),
    )
    own = {theirs: config[ours] for theirs, ours in OWN.items() if config.get(ours) is not None}
    return {**config, **own}


def keys_of(config: Config, context: int) -> Metadata:
    """Keys of both kinds; context: how many places it was trained for, where it says that it has more."""
    places = min(count(config, "max_position_embeddings"), context)
    rope = rope_parameters(config, theta=1000.0)
    return {
        **encoder_keys({**config, "max_position_embeddings": places}),
        **layer_epsilon(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "Nomic BERT"),
    }


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    config = in_common_words(config)
    check_supported(config, "Nomic BERT", hidden_act=("silu", "swiglu"))
    return keys_of(config, count(config, "max_trained_positions", 2048))


def forward(g: Graph) -> Outputs:
    """Post-norm encoder; the type of the first text is added to all tokens."""
    return encode(g, embedded(g), lambda layer, h: gated(layer, h, "silu"), rope=True)
