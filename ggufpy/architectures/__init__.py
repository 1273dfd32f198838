"""One file per architecture, named as GGUF's `general.architecture`; files with a leading _ are shared."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol, cast

from ggufpy.architectures._names import Names, Place, Way, ways
from ggufpy.architectures._reranking import RERANKER_TOKENS
from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.values import Typed, Value
from ggufpy.graph import Graph, Outputs

__all__ = [
    "RERANKER_TOKENS",
    "Architecture",
    "Names",
    "Place",
    "Way",
    "architecture",
    "name_for_class",
    "names",
    "not_needed",
    "ways",
]

# Files whose architecture has a hyphen in its name.
_WITH_HYPHEN = {
    "command_r": "command-r",
    "ernie4_5_moe": "ernie4_5-moe",
    "falcon_h1": "falcon-h1",
    "gemma_embedding": "gemma-embedding",
    "gpt_oss": "gpt-oss",
    "hunyuan_dense": "hunyuan-dense",
    "hunyuan_moe": "hunyuan-moe",
    "jina_bert_v2": "jina-bert-v2",
    "jina_bert_v3": "jina-bert-v3",
    "llama_embed": "llama-embed",
    "minimax_m2": "minimax-m2",
    "modern_bert": "modern-bert",
    "nomic_bert": "nomic-bert",
    "nomic_bert_moe": "nomic-bert-moe",
}


class Architecture(Protocol):
    """What a file of this folder has."""

    HF_CLASSES: tuple[str, ...]
    """Classes of transformers, as `architectures` in `config.json` names them."""

    NAMES: Names
    """What a checkpoint calls the tensors of the GGUF file, in the file's order."""

    def metadata(self, config: Mapping[str, Any]) -> dict[str, Value | Typed]:
        """`config.json` as GGUF metadata; keys are without the architecture's prefix.

        Raises FormatError for values that cannot be, UnsupportedModelError for those that GGUF cannot say.
        """

    def forward(self, g: Graph) -> Outputs:
        """The network, traced: from token ids to "logits", and to what else it can give, by name."""


def names() -> list[str]:
    """The values of `general.architecture` that ggufpy knows."""
    return sorted(_modules())


def architecture(name: str) -> Architecture:
    """The file for a `general.architecture`; raises UnsupportedModelError if there is none."""
    if name not in _modules():
        known = ", ".join(names())
        raise UnsupportedModelError(f"architecture '{name:.80}' is unknown; ggufpy knows: {known}")
    return cast(Architecture, import_module(f"{__name__}.{_modules()[name]}"))


def not_needed(architecture: Architecture) -> tuple[str, ...]:
    """NOT_NEEDED, which few files have: how a checkpoint's tensors begin that GGUF has no use for."""
    beginnings: tuple[str, ...] = getattr(architecture, "NOT_NEEDED", ())
    return beginnings


@cache
def _modules() -> dict[str, str]:
    """Files by the architecture's name; "-", which a module's name cannot have, is "_" there."""
    files = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    return {_WITH_HYPHEN.get(name, name): name for name in files}


def name_for_class(hf_class: str, config: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The architecture that covers a class of transformers; raises UnsupportedModelError if none does.

    Of several, the one whose `covers(config)` says that it does, then one without such a function. What is
    saved without a head is named LlamaModel where it would be LlamaForCausalLM otherwise.
    """
    by_class: dict[str, str] = {}
    for name in sorted(names(), key=lambda name: hasattr(architecture(name), "covers")):
        module = architecture(name)
        classes = dict.fromkeys(module.HF_CLASSES, name)
        covers = getattr(module, "covers", lambda config: True)
        by_class = by_class | classes if covers(config) else classes | by_class
    with_head = f"{hf_class.removesuffix('Model')}ForCausalLM" if hf_class.endswith("Model") else hf_class
    if hf_class not in by_class and with_head not in by_class:
        nearest = ", ".join(get_close_matches(hf_class[:80], sorted(by_class), n=4, cutoff=0.0))
        known = f"ggufpy knows {len(by_class)} others, the nearest are {nearest}"
        raise UnsupportedModelError(f"model class '{hf_class:.80}' is unknown; {known}")
    return by_class.get(hf_class) or by_class[with_head]
