"""One file per architecture, named as GGUF's `general.architecture`; files with a leading _ are shared."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value
from ggufpy.graph import Graph, Node


class Architecture(Protocol):
    """What a file of this folder has."""

    HF_CLASSES: tuple[str, ...]
    """Classes of transformers, as `architectures` in `config.json` names them."""

    def metadata(self, config: Mapping[str, Any]) -> dict[str, Value | Typed]:
        """`config.json` as GGUF metadata; keys are without the architecture's prefix."""

    def convert_tensors(
        self, config: Mapping[str, Any], tensors: Mapping[str, TensorSource]
    ) -> Sequence[TensorSource]:
        """All tensors of the GGUF file, in its order, from those of the checkpoint."""

    def forward(self, g: Graph) -> Node:
        """The network, traced: from token ids to logits."""


def names() -> list[str]:
    """The values of `general.architecture` that ggufpy knows."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def architecture(name: str) -> Architecture:
    """The file for a `general.architecture`; raises UnsupportedModelError if there is none."""
    if name not in names():
        known = ", ".join(names())
        raise UnsupportedModelError(f"architecture '{name:.80}' is unknown; ggufpy knows: {known}")
    return cast(Architecture, import_module(f"{__name__}.{name}"))


def name_for_class(hf_class: str) -> str:
    """The architecture that covers a class of transformers; raises UnsupportedModelError if none does."""
    classes = {known: name for name in names() for known in architecture(name).HF_CLASSES}
    if hf_class not in classes:
        known = ", ".join(sorted(classes))
        raise UnsupportedModelError(f"model class '{hf_class:.80}' is unknown; ggufpy knows: {known}")
    return classes[hf_class]
