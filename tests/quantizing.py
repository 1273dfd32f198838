"""Models and matrices to quantize."""

from pathlib import Path

import numpy as np
import random_llama
import tiny
from numpy.typing import NDArray
from random_llama import TOKENS
from steps import step
from tiny import CONFIG

from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.writer import write_gguf
from ggufpy.runtime.engine import Engine

Floats = NDArray[np.float32]


def matrix_for(path: Path, model: Path) -> Path:
    """An importance matrix for all tensors of a model."""
    rng = np.random.default_rng(1)
    sources = []
    with GGUFFile.open(model) as file:
        for info in file.tensors.values():
            sums = rng.random(info.shape[-1], np.float32) + np.float32(0.1)
            sources.append(random_llama.source(f"{info.name}.in_sum2", sums))
            sources.append(random_llama.source(f"{info.name}.counts", np.ones(1, np.float32)))
    write_gguf(path, {"general.type": "imatrix", "imatrix.chunk_count": 1}, sources)
    return path


def types(path: Path) -> dict[str, str]:
    with GGUFFile.open(path) as file:
        return {name: tensor.type.label for name, tensor in file.tensors.items()}


def wide_checkpoint(folder: Path, tokenizer: Path, dtype: str = "BF16") -> Path:
    """A checkpoint with rows that blocks of 256 divide, and some that they do not."""
    config = {"hidden_size": 256, "intermediate_size": 288, "tie_word_embeddings": True}
    tiny.checkpoint(folder, tokenizer, CONFIG | config, dtype=dtype)
    return folder


def logits(path: Path) -> Floats:
    engine = Engine.load(GGUFFile.open(path), precision="exact", n_threads=1)
    return step(engine, engine.new_sequence(), TOKENS, logits="all")
