"""Biases that make up for rounding: outputs keep their means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from engines import load, nmse, prompt_logits
from numpy.typing import NDArray
from oracle import Oracle, needs_oracle
from test_folding import TOKENS, checkpoint

from ggufpy.calibrate.biases import with_biases
from ggufpy.calibrate.llama_biases import TAKEN
from ggufpy.calibrate.streams import Runner
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.sources import constant
from ggufpy.graph.nodes import Linear
from ggufpy.quants.choice.planning import kept
from ggufpy.quants.file import COPY, QuantizationPlan, plan_quantization
from ggufpy.runtime.engine import trace

CHUNKS = [[(7 * i + 31 * chunk) % tiny_models.VOCAB for i in range(40)] for chunk in range(3)]


def planned(path: Path, out: Path, *, keep_split: bool = False) -> QuantizationPlan:
    return plan_quantization(
        path,
        out,
        "q4_0",
        pure=True,
        allow_requantize=True,
        keep_split=keep_split,
        output_tensor_type="f32",
        token_embedding_type="f32",
    )


def corrected(path: Path, out: Path) -> Path:
    plan = with_biases(planned(path, out), GGUFFile.open(path), CHUNKS, n_threads=1)
    return plan.write()[0]


def means(path: Path) -> dict[str, NDArray[np.float32]]:
    """Of what queries, keys and values of the first layer are, of all tokens."""
    file = GGUFFile.open(path)
    nodes = trace(file)[0].nodes
    linears = [node for node in nodes if isinstance(node, Linear)][:3]
    wanted = {linear.matrices[0].tensor: linear.outputs[0] for linear in linears}
    return {
        name: rows.mean(axis=0) for name, rows in Runner(file, CHUNKS, 1).run(nodes, wanted, None).items()
    }


@pytest.mark.parametrize("name", ["mistral3", "llama"])
def test_outputs_keep_their_means(tmp_path: Path, name: str) -> None:
    """Of biases that are there, and of new ones."""
    path = tiny_models.write(tmp_path / "model.gguf", name)
    (plain,) = planned(path, tmp_path / "plain.gguf").write()
    other = corrected(path, tmp_path / "other.gguf")
    want, rounded, found = means(path), means(plain), means(other)
    for tensor, mean in want.items():
        np.testing.assert_allclose(found[tensor], mean, atol=1e-5, err_msg=tensor)
        assert np.abs(rounded[tensor] - mean).max() > 1e-3, tensor
    assert nmse(prompt_logits(load(other), CHUNKS[0]), prompt_logits(load(path), CHUNKS[0])) < nmse(
        prompt_logits(load(plain), CHUNKS[0]), prompt_logits(load(path), CHUNKS[0])
    )


def test_experts_have_none_of_their_own(tmp_path: Path) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", "qwen3moe")
    before, after = GGUFFile.open(path), GGUFFile.open(corrected(path, tmp_path / "other.gguf"))
    new = {name.split(".", 2)[2] for name in after.tensors.keys() - before.tensors.keys()}
    assert new == {f"{name}.bias" for name in TAKEN["qwen3moe"]}


def test_shards_take_new_ones(tmp_path: Path) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", "llama")
    plan = planned(path, tmp_path / "other.gguf")
    plan = replace(plan, shards=[4, len(plan.planned) - 4])
    with_biases(plan, GGUFFile.open(path), CHUNKS, n_threads=1).write()
    with GGUFFile.open(tmp_path / "other-00001-of-00002.gguf") as file:
        assert "blk.1.ffn_down.bias" in file.tensors


@needs_oracle
@pytest.mark.parametrize("architecture", sorted(TAKEN))
def test_llama_cpp_uses_them(tmp_path: Path, shipped_checkpoint: Path, architecture: str) -> None:
    """All that are new, at once."""
    stem = {"phi3": "phi4"}.get(architecture, architecture)
    (tmp_path / "model").mkdir()  # a name that says Phi 3 would change how tokens are read
    path = checkpoint(tmp_path / "model", shipped_checkpoint, stem)
    plan = plan_quantization(path, tmp_path / "other.gguf", COPY)
    rng = np.random.default_rng(0)
    new = []
    with GGUFFile.open(path) as file:
        assert file.metadata["general.architecture"] == architecture
        for name, info in file.tensors.items():
            bias = name.removesuffix(".weight") + ".bias"
            if (
                name.startswith("blk.")
                and name.split(".")[2] in TAKEN[architecture]
                and bias not in file.tensors
            ):
                values = 0.3 * rng.standard_normal(info.shape[0])
                new.append(kept(constant(bias, values.astype(np.float32))))
    (other,) = replace(plan, planned=[*plan.planned, *new]).write()
    with Oracle(other, kv_f32=True) as oracle:
        assert new and nmse(oracle.logits(TOKENS), prompt_logits(load(other), TOKENS)) < 1e-5
