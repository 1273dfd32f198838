"""Jina embeddings v3: XLM-RoBERTa with rotary places."""

from __future__ import annotations

from ggufpy.architectures._conversion import Config, Metadata, check_supported, count
from ggufpy.architectures._decoder import plain
from ggufpy.architectures._encoder import embedded, encode, encoder_keys, layer_epsilon
from ggufpy.architectures._names import Names, Way, renamed
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.architectures.bert import first_place
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("JinaEmbeddingsV3Model", "XLMRobertaModel")
NOT_NEEDED = ("roberta.pooler.",)


def covers(config: Config) -> bool:
    """Whether the checkpoint has adapters for tasks, by which the model's own code is known."""
    return bool(config.get("lora_adaptations"))


def _adapted(name: str) -> tuple[str | Way, ...]:
    """A matrix, under its name or that of the base of an adapted one."""
    return name, renamed(name, weight="parametrizations.weight.original", bias="bias")


NAMES: Names = {
    "token_embd": _adapted("roberta.embeddings.word_embeddings"),
    "token_types": _adapted("roberta.embeddings.token_type_embeddings"),
    "token_embd_norm": "roberta.emb_ln",
    "blk.{i}.attn_qkv": _adapted("roberta.encoder.layers.{i}.mixer.Wqkv"),
    "blk.{i}.attn_output": _adapted("roberta.encoder.layers.{i}.mixer.out_proj"),
    "blk.{i}.attn_output_norm": "roberta.encoder.layers.{i}.norm1",
    "blk.{i}.ffn_up": _adapted("roberta.encoder.layers.{i}.mlp.fc1"),
    "blk.{i}.ffn_down": _adapted("roberta.encoder.layers.{i}.mlp.fc2"),
    "blk.{i}.layer_output_norm": "roberta.encoder.layers.{i}.norm2",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "Jina v3", hidden_act=("gelu",), position_embedding_type=("rotary",))
    config = {"rope_theta": config.get("rotary_emb_base"), **config}
    places = count(config, "max_position_embeddings") - first_place(config)
    rope = rope_parameters(config, theta=20000.0)
    return {
        **encoder_keys({**config, "max_position_embeddings": places}),
        **layer_epsilon(config, 1e-5),
        **rope_base(rope),
        **rope_scaling(config, rope, "Jina v3"),
    }


def forward(g: Graph) -> Outputs:
    """Post-norm encoder; tasks' adapters are no part of it."""
    return encode(g, embedded(g), lambda layer, h: plain(layer, h, "gelu_erf"), rope=True)
