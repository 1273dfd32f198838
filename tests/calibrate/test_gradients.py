"""Gradients of whole networks against finite differences of the reference's loss, with the labels drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_bert
import tiny_models
from numpy.typing import NDArray
from reference import Text

from ggufpy.calibrate import gradients
from ggufpy.calibrate.gradients import Gradients, _drawn, measure_gradients
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import Embed, Linear
from models import Model

CHUNKS = [[(7 * i + 31 * chunk + i * i) % tiny_models.VOCAB for i in range(14)] for chunk in range(2)]
NAMES = ["llama", "gemma2", "gemma3", "qwen3moe", "mamba2", "qwen3next", "gpt-oss", "phimoe"]
STEP = 1e-5

Seen = dict[str, NDArray[np.float32]]


class Loss:
    """The summed loss of each chunk, with a value moved at one token."""

    def __init__(self, model: Model, labels: NDArray[np.int64]) -> None:
        self._nodes, self._logits = model.traced[0].nodes, model.traced[1]
        self._labels = labels.reshape(len(CHUNKS), -1)
        self._texts = [Text(model.tensors, chunk) for chunk in CHUNKS]
        for text in self._texts:
            text.run(self._nodes)

    def slope(self, value: Value, row: int, output: int) -> float:
        """By one of the values of a token, by central differences."""
        by = np.zeros(value.width)
        by[output] = STEP
        chunk, token = divmod(row, len(CHUNKS[0]))
        return (self._at(value, chunk, token, by) - self._at(value, chunk, token, -by)) / (2 * STEP)

    def _at(self, value: Value, chunk: int, token: int, by: NDArray[Any]) -> float:
        base = self._texts[chunk]
        text = Text(base.tensors, base.tokens, values=dict(base.values), chosen=dict(base.chosen))
        text.windows = base.windows
        text.values[value] = base[value].copy()
        text.values[value][token] += by.reshape(value.shape)
        text.run(_after(self._nodes, value))
        x = text[self._logits]
        x = x - x.max(axis=1, keepdims=True)
        logs = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
        return -float(logs[np.arange(len(x)), self._labels[chunk]].sum())


def _after(nodes: list[Node], value: Value) -> list[Node]:
    at = next(i for i, node in enumerate(nodes) if value in node.outputs)
    return nodes[at + 1 :]


def linears(model: Model) -> dict[str, Value]:
    nodes = (node for node in model.traced[0].nodes if isinstance(node, Linear))
    return {node.matrices[0].tensor: node.outputs[0] for node in nodes}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What was measured at the outputs of linears, (tokens, outputs)."""
    found: Seen = {}
    add = Gradients._add

    def note(self: Gradients, name: str, part: slice, g: NDArray[np.float32]) -> None:
        found[name] = np.concatenate([found.get(name, g[:0]), g])
        add(self, name, part, g)

    monkeypatch.setattr(Gradients, "_add", note)
    return found


def measured(model: Model, folder: Path, **options: Any) -> Gradients:
    return measure_gradients(model.file, CHUNKS, folder, n_threads=1, **{"fisher": False, **options})


def model_of(folder: Path, name: str) -> Model:
    return Model(tiny_models.write(folder / "model.gguf", name))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_at_linears(tmp_path: Path, name: str, seen: Seen) -> None:
    model = model_of(tmp_path, name)
    found = measured(model, tmp_path)
    loss, values = Loss(model, found.labels), linears(model)
    rng = np.random.default_rng(0)
    assert {each.split(".")[1] for each in seen if each.startswith("blk.")} == {"0", "1"}
    for tensor, g in seen.items():
        for _ in range(3):
            row, output = int(rng.integers(len(g))), int(rng.integers(g.shape[1]))
            want = loss.slope(values[tensor], row, output)
            error = abs(g[row, output] - want)
            assert error < 1e-3 * np.sqrt((g[row] ** 2).mean()) + 1e-7, (tensor, row, output)


def test_what_is_kept(tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_LOGITS", 5 * tiny_models.VOCAB)  # blocks of 5 tokens, the last of 3
    done: list[tuple[int, int]] = []
    model = model_of(tmp_path, "gemma3")
    found = measured(model, tmp_path, fisher=True, on_layer=lambda *each: done.append(each))
    assert done == [(i, 6) for i in range(1, 7)]
    assert found.linears == tuple(seen) and found.linears[0] == "token_embd.weight"
    for name, g in seen.items():
        np.testing.assert_allclose(found.weights(name), (g**2).sum(axis=1), rtol=1e-5)
        if name.startswith("blk."):
            np.testing.assert_allclose(found.fisher(name), g.T @ g / len(g), rtol=1e-3, atol=1e-5 * g.max())
    files = sorted(path.suffix for path in tmp_path.iterdir())
    assert files == [".gguf", *[".npy"] * (2 + len(seen) - 1)]  # streams are gone


def test_both_ends(tmp_path: Path) -> None:
    model = model_of(tmp_path, "gemma3")
    found = measured(model, tmp_path)
    nodes = model.traced[0].nodes
    loss = Loss(model, found.labels)
    output = [node for node in nodes if isinstance(node, Linear)][-1]
    moments = []
    for chunk in CHUNKS:
        text = Text(model.tensors, chunk)
        text.run(nodes)
        moments.append(text[output.x].T @ text[output.x])
    want = sum(moments) / (len(CHUNKS) * len(CHUNKS[0]))
    np.testing.assert_allclose(found.output_moment(), want, rtol=1e-3, atol=1e-4 * np.abs(want).max())
    embed = next(node for node in nodes if isinstance(node, Embed))
    rows = range(len(CHUNKS) * len(CHUNKS[0]))
    for column in (0, 77):
        slopes = [embed.scale * loss.slope(embed.outputs[0], row, column) for row in rows]
        assert found.embedding_fisher()[column, column] == pytest.approx(np.square(slopes).mean(), rel=1e-3)


def test_labels_are_drawn_from_the_model(tmp_path: Path) -> None:
    model = model_of(tmp_path, "llama")
    first, again, other = (measured(model, tmp_path, seed=seed).labels for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    p = np.array([0.2, 0.5, 0.0, 0.3], np.float32)
    assert [_drawn(p, at) for at in (0.0, 0.19, 0.21, 0.69, 0.71, 0.999)] == [0, 0, 1, 1, 3, 3]


@pytest.mark.parametrize("name", ["gemma3n", "gemma4"])
def test_layers_that_hang_together(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="layers of this architecture do not run by themselves"):
        measured(model_of(tmp_path, name), tmp_path)


def test_a_model_that_embeds(tmp_path: Path) -> None:
    model = Model(random_bert.write(tmp_path / "bert.gguf", 1))
    with pytest.raises(UnsupportedModelError, match="embeds texts, and gradients are of models that write"):
        measured(model, tmp_path)
