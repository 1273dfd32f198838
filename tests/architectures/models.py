"""The models that every architecture is tested with: llama.cpp's tiny ones, where they are, and our own."""

from __future__ import annotations

import json
import os
import re
import runpy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from numpy.typing import NDArray
from reference import compute, decoded

from ggufpy.architectures import names
from ggufpy.gguf.reader import GGUFFile
from ggufpy.graph import Graph, Value
from ggufpy.graph.nodes import Embed, Route, Unary
from ggufpy.runtime.engine import trace

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("GGUFPY_SHARED", ROOT.parent / "shared")) / "conformance" / "archs"
HERE = FOLDER.is_dir()

# Tensors that llama.cpp reads and does not use; transformers does.
IGNORED = dict.fromkeys(("ernie4_5", "ernie4_5-moe", "falcon-h1"), "attn_output.bias")


@dataclass(frozen=True)
class Model:
    """A file; its graph, and its tensors as floats."""

    path: Path

    @cached_property
    def file(self) -> GGUFFile:
        return GGUFFile.open(self.path)

    @cached_property
    def traced(self) -> tuple[Graph, Value]:
        graph, outputs = trace(self.file)
        return graph, outputs["logits"]

    @cached_property
    def tensors(self) -> dict[str, NDArray[np.float64]]:
        return decoded(self.file.tensors)

    def reference(self, tokens: list[int], **text: Any) -> NDArray[np.float64]:
        """The logits of all tokens."""
        graph, logits = self.traced
        return compute(graph.nodes, logits, self.tensors, tokens, **text)

    def has(self, *kinds: type) -> bool:
        return any(isinstance(node, kinds) for node in self.traced[0].nodes)

    @property
    def n_ctx(self) -> int:
        """Llama.cpp's, on which factors of LongRoPE depend, or as many places as there are embeddings of."""
        embeds = (node for node in self.traced[0].nodes if isinstance(node, Embed) and node.by == "place")
        return min([512, *(self.file.tensors[node.tensor].shape[0] for node in embeds)])

    @property
    def chooses(self) -> bool:
        """Whether experts are chosen, which rounding may turn."""
        return self.has(Route)

    @property
    def has_gelu(self) -> bool:
        """Whether llama.cpp looks something up in a table of f16."""
        nodes = self.traced[0].nodes
        return any(isinstance(node, Unary) and node.function in ("gelu", "gelu_erf") for node in nodes)


def conformance() -> list[str]:
    """Llama.cpp's files of the architectures that there are, and recipes of others."""
    known = names()
    files = [
        p.name for p in FOLDER.glob("*.gguf") if GGUFFile.open(p).metadata["general.architecture"] in known
    ]
    recipes = [p.name for p in FOLDER.glob("recipes/*.json") if _architecture_of(p) in known]
    return sorted([*files, *recipes])


def _architecture_of(recipe: Path) -> str:
    """From a recipe's first lines: the whole of it is long."""
    with recipe.open() as lines:
        return next(found[1] for line in lines if (found := re.search(r'"architecture": "(.+?)"', line)))


def logits_of(name: str) -> tuple[NDArray[np.float32], list[int]]:
    """What llama.cpp computed, and its tokens."""
    folder = FOLDER / "recipes" if name.endswith(".json") else FOLDER
    stored = np.load(folder / "logits.npz")
    return stored[name.rpartition(".")[0]], stored["tokens"].tolist()


FILES = conformance()


def parameters(values: Iterable[str]) -> list[Any]:
    """For pytest; one that says why it is skipped where the files are not."""
    skip = pytest.mark.skip(reason="no conformance files beside the repository (set GGUFPY_SHARED)")
    return list(values) if HERE else [pytest.param("", marks=skip)]


ModelOf = Callable[[str], Model]


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> ModelOf:
    """Makes the model of a name: "llama" is a tiny one of ours, "llama.gguf" and "jais.json" llama.cpp's."""
    folder = tmp_path_factory.mktemp("models")

    @cache
    def make(name: str) -> Model:
        if name.endswith(".gguf"):
            return Model(FOLDER / name)
        if name.endswith(".json"):
            recipe = json.loads((FOLDER / "recipes" / name).read_text())
            without = IGNORED.get(recipe["architecture"], "-")
            recipe["tensors"] = [tensor for tensor in recipe["tensors"] if without not in tensor[0]]
            runpy.run_path(str(FOLDER / "make_model.py"))["write"](recipe, str(folder / name))
            return Model(folder / name)
        return Model(tiny_models.write(folder / f"{name}.gguf", name))

    return make


@pytest.fixture
def model(request: pytest.FixtureRequest, model_of: ModelOf) -> Model:
    """The model whose name is the test's parameter."""
    return model_of(request.param)
