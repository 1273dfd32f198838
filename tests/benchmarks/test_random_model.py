"""Files with random weights: llama.cpp opens them, and their logits are sane."""

from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle, dequantize, needs_oracle
from random_blocks import DEVIATION
from random_model import TYPES, random_model, random_tensors
from shapes import SHAPES, llama

from ggufpy.architectures import architecture
from ggufpy.gguf.reader import GGUFFile
from ggufpy.graph import Graph

TINY = llama(2, 256, (4, 2, 64), 512, 5000, context=64)


@needs_oracle
@pytest.mark.parametrize("name", TYPES)
def test_every_type_loads_and_gives_finite_logits(name: str, tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    random_model(path, TINY, TYPES[name])
    with GGUFFile.open(path) as file:
        tensor = file.tensors["blk.1.ffn_down.weight"]
        weights = dequantize(tensor.data, tensor.type, 256 * 512)
    assert abs(weights.mean()) < DEVIATION / 2
    assert DEVIATION / 1.5 < weights.std() < DEVIATION * 1.5
    with Oracle(path, n_ctx=64) as oracle:
        assert oracle.n_vocab == 5000
        logits = oracle.logits(oracle.tokenize("The capital of France"))
    assert np.isfinite(logits).all()
    assert 0.05 < logits.std() < 5


def test_a_seed_says_everything(tmp_path: Path) -> None:
    first, again, other = tmp_path / "first.gguf", tmp_path / "again.gguf", tmp_path / "other.gguf"
    random_model(first, TINY, TYPES["q4_k"], seed=1)
    random_model(again, TINY, TYPES["q4_k"], seed=1)
    random_model(other, TINY, TYPES["q4_k"], seed=2)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_rows_do_not_depend_on_how_they_are_read() -> None:
    for tensor in random_tensors(TINY, TYPES["q6_k"], seed=1):
        parts = [tensor.read(0, tensor.rows // 3), tensor.read(tensor.rows // 3, tensor.rows)]
        assert np.array_equal(np.concatenate(parts), tensor.read(0, tensor.rows))


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_is_its_architectures(name: str) -> None:
    tensors = {tensor.name: tensor for tensor in random_tensors(SHAPES[name], TYPES["q4_k"], seed=0)}
    metadata = SHAPES[name].metadata() | {"general.architecture": SHAPES[name].architecture}
    graph = Graph.trace(metadata, tensors, name)
    assert architecture(SHAPES[name].architecture).forward(graph)["logits"].width == SHAPES[name].vocab
    graph.check_all_used()
