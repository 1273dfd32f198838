"""The models that every architecture is tested with: llama.cpp's tiny ones, where they are, and our own."""

from __future__ import annotations

import os
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
from ggufpy.graph.nodes import Route, Unary
from ggufpy.runtime.engine import trace

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("GGUFPY_SHARED", ROOT.parent / "shared")) / "conformance" / "archs"
HERE = FOLDER.is_dir()

# Files that ggufpy refuses although it knows their architecture, and why.
REFUSED: dict[str, str] = {}


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
    def chooses(self) -> bool:
        """Whether experts are chosen, which rounding may turn."""
        return self.has(Route)

    @property
    def has_gelu(self) -> bool:
        """Whether llama.cpp looks something up in a table of f16."""
        nodes = self.traced[0].nodes
        return any(isinstance(node, Unary) and node.function == "gelu" for node in nodes)


def conformance() -> list[str]:
    """Names of llama.cpp's files of the architectures that there are."""
    known = names()
    files = [path for path in FOLDER.glob("*.gguf") if path.stem not in REFUSED]
    known_files = (p for p in files if GGUFFile.open(p).metadata["general.architecture"] in known)
    return sorted(path.stem for path in known_files)


FILES = [f"{name}.gguf" for name in conformance()]


def parameters(values: Iterable[str]) -> list[Any]:
    """For pytest; one that says why it is skipped where the files are not."""
    skip = pytest.mark.skip(reason="no conformance files beside the repository (set GGUFPY_SHARED)")
    return list(values) if HERE else [pytest.param("", marks=skip)]


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Makes the model of a name: "llama" is a tiny one of ours, "llama.gguf" llama.cpp's."""
    folder = tmp_path_factory.mktemp("models")

    @cache
    def make(name: str) -> Model:
        if name.endswith(".gguf"):
            return Model(FOLDER / name)
        return Model(tiny_models.write(folder / f"{name}.gguf", name))

    return make


@pytest.fixture
def model(request: pytest.FixtureRequest, model_of: Callable[[str], Model]) -> Model:
    """The model whose name is the test's parameter."""
    return model_of(request.param)
