"""EmbeddingGemma: Gemma 3 in which tokens see later ones, and dense layers behind the pooling."""

from __future__ import annotations

from ggufpy.architectures import gemma3
from ggufpy.architectures._conversion import Config, Metadata
from ggufpy.architectures._names import Names
from ggufpy.architectures._pooling import pooled
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Gemma3TextModel",)
NAMES: Names = {
    **{entry: name for entry, name in gemma3.NAMES.items() if entry != "output"},
    "dense_2": "dense_2.linear",
    "dense_3": "dense_3.linear",
}


def covers(config: Config) -> bool:
    """Whether tokens see later ones."""
    return config.get("use_bidirectional_attention") is True


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return gemma3.hyperparameters(config)


def forward(g: Graph) -> Outputs:
    """Gemma 3's layers."""
    x = gemma3.hidden(g, causal=False)
    return {"embeddings": pooled(g, g.norm(x, "output_norm"))}
