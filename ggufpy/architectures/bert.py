"""BERT, RoBERTa, XLM-RoBERTa, CamemBERT: learned places, norms behind sums, labels by the first token."""

from __future__ import annotations

from ggufpy.architectures._conversion import Config, Metadata, check_supported, class_of, count
from ggufpy.architectures._decoder import plain
from ggufpy.architectures._encoder import (
    activation,
    activation_key,
    classifier_keys,
    embedded,
    encode,
    encoder_keys,
    is_classifier,
    layer_epsilon,
)
from ggufpy.architectures._names import Names, Place, Way, renamed, rows, when
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Outputs

_KINDS = ("Bert", "Roberta", "XLMRoberta", "Camembert")
_ENDS = ("Model", "ForMaskedLM", "ForSequenceClassification")
HF_CLASSES = tuple(f"{kind}{end}" for kind in _KINDS for end in _ENDS)

# What predicts masked tokens, or the next sentence, and BERT's first token for that.
NOT_NEEDED = ("cls.", "lm_head.", "bert.pooler.")


def _norm(name: str) -> tuple[str | Way, ...]:
    """A norm, under its name or that of checkpoints that come from TensorFlow."""
    return name, renamed(name, weight="gamma", bias="beta")


def first_place(config: Config) -> int:
    """Rows of places that RoBERTa and its kin never use."""
    padding = config.get("pad_token_id", 1)
    if class_of(config).startswith("Bert"):
        return 0
    if type(padding) is not int or padding < 0:
        raise FormatError(f"config.json: pad_token_id is {padding!r:.40}, it must be a token")
    return padding + 1


def _classifies(place: Place) -> bool:
    return is_classifier(place.config)


NAMES: Names = {
    "token_embd": "bert.embeddings.word_embeddings",
    "token_types": "bert.embeddings.token_type_embeddings",
    "position_embd": rows(
        "bert.embeddings.position_embeddings", lambda place: slice(first_place(place.config), None)
    ),
    "token_embd_norm": _norm("bert.embeddings.LayerNorm"),
    "blk.{i}.attn_q": "bert.encoder.layer.{i}.attention.self.query",
    "blk.{i}.attn_k": "bert.encoder.layer.{i}.attention.self.key",
    "blk.{i}.attn_v": "bert.encoder.layer.{i}.attention.self.value",
    "blk.{i}.attn_output": "bert.encoder.layer.{i}.attention.output.dense",
    "blk.{i}.attn_output_norm": _norm("bert.encoder.layer.{i}.attention.output.LayerNorm"),
    "blk.{i}.ffn_up": "bert.encoder.layer.{i}.intermediate.dense",
    "blk.{i}.ffn_down": "bert.encoder.layer.{i}.output.dense",
    "blk.{i}.layer_output_norm": _norm("bert.encoder.layer.{i}.output.LayerNorm"),
    "cls": ("classifier.dense", when(_classifies, "bert.pooler.dense")),
    "cls.output": ("classifier.out_proj", "classifier"),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(
        config,
        "BERT",
        position_embedding_type=("absolute",),
        is_decoder=(False,),
        add_cross_attention=(False,),
    )
    places = count(config, "max_position_embeddings") - first_place(config)
    return {
        **encoder_keys({**config, "max_position_embeddings": places}),
        **layer_epsilon(config),
        **activation_key(config, "BERT"),
        **classifier_keys(config),
    }


def forward(g: Graph) -> Outputs:
    """Post-norm encoder with learned places."""
    function = activation(g)
    x = embedded(g)
    x = x + g.embed("position_embd", x.width, by="place", rows=g.keys.integer("context_length"))
    return encode(g, x, lambda layer, h: plain(layer, h, function))
