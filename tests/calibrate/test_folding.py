"""Scaled networks compute the same, wherever the graph says that they can be scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_models
from engines import load, nmse, prompt_logits
from numpy.typing import NDArray
from oracle import Oracle, needs_oracle
from tiny_checkpoints import models

from ggufpy import convert_checkpoint
from ggufpy.calibrate.folded_file import folded
from ggufpy.calibrate.folding import Fold, folds_of
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.runtime.engine import trace

TOKENS = [(7 * i + 3) % tiny_models.VOCAB for i in range(33)]


def folds(path: Path) -> list[Fold]:
    file = GGUFFile.open(path)
    graph, outputs = trace(file)
    return folds_of(graph.nodes, outputs.values(), {name: info.shape for name, info in file.tensors.items()})


def any_scales(found: list[Fold]) -> dict[Fold, NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return {fold: (4 ** rng.uniform(-1, 1, fold.size)).astype(np.float32) for fold in found}


def checkpoint(folder: Path, shipped: Path, name: str) -> Path:
    (model,) = (each for each in models() if each.file.stem == name and not each.case)
    tiny.write(folder, shipped, model.config)
    tiny.save(folder, model.weights())
    return convert_checkpoint(folder, outtype="f32")[0]


def read_as(fold: Fold) -> str:
    """What a fold changes, in short."""
    short = [
        [change.tensor.removesuffix(".weight").split(".", 2)[2] for change in changes]
        for changes in (fold.makers, fold.consumers)
    ]
    return f"{' '.join(short[0])} > {' '.join(short[1])}"


@pytest.mark.parametrize(
    "name",
    ["llama", "mistral3", "gemma3", "gemma3n", "gpt-oss", "deepseek2", "mamba2", "qwen3moe", "qwen3next"],
)
def test_logits_stay(tmp_path: Path, name: str) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", name)
    found = folds(path)
    other = folded(path, any_scales(found), tmp_path / "folded.gguf")
    assert len(found) >= 4
    assert nmse(prompt_logits(load(other), TOKENS), prompt_logits(load(path), TOKENS)) < 1e-8
    with GGUFFile.open(path) as before, GGUFFile.open(other) as after:
        assert dict(before.metadata) == dict(after.metadata)
        changed = {change.tensor for fold in found for change in fold.changes()}
        for tensor, info in after.tensors.items():
            assert info.type is (GGMLType.F32 if tensor in changed else before.tensors[tensor].type)


@needs_oracle
@pytest.mark.parametrize("name", ["qwen2", "phi2", "falcon", "nemotron", "gpt2", "qwen2moe", "phi4"])
def test_llama_cpp_computes_the_same(tmp_path: Path, shipped_checkpoint: Path, name: str) -> None:
    path = checkpoint(tmp_path, shipped_checkpoint, name)
    other = folded(path, any_scales(folds(path)), tmp_path / "folded.gguf")
    assert nmse(prompt_logits(load(other), TOKENS), prompt_logits(load(path), TOKENS)) < 1e-8
    with Oracle(path, kv_f32=True) as before, Oracle(other, kv_f32=True) as after:
        assert nmse(after.logits(TOKENS), before.logits(TOKENS)) < 1e-5  # it rounds what gelu reads


MOE = "ffn_gate_inp ffn_gate_exps ffn_up_exps"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "llama",
            [
                "attn_norm > attn_q attn_k attn_v",
                "attn_v > attn_output",
                "ffn_norm > ffn_gate ffn_up",
                "ffn_up > ffn_down",
            ],
        ),
        (
            "qwen3moe",
            [
                "attn_norm > attn_q attn_k attn_v",
                "attn_v > attn_output",
                f"ffn_norm > {MOE}",
                "ffn_up_exps > ffn_down_exps",
            ],
        ),
        # What is limited, or passes silu, or a norm without a weight, keeps its size.
        (
            "gpt-oss",
            [
                "attn_norm > attn_q attn_k attn_v",
                "attn_v attn_v.bias > attn_output",
                f"post_attention_norm > {MOE}",
            ],
        ),
        ("mamba2", ["attn_norm > ssm_in", "ssm_norm > ssm_out"]),
    ],
)
def test_where_scales_go(tmp_path: Path, name: str, expected: list[str]) -> None:
    found = [read_as(fold) for fold in folds(tiny_models.write(tmp_path / "model.gguf", name))]
    assert found == expected * tiny_models.LAYERS


def test_a_vector_that_reads_a_norm_takes_its_scales(tmp_path: Path) -> None:
    found = [read_as(fold) for fold in folds(tiny_models.write(tmp_path / "model.gguf", "qwen3next"))]
    assert f"post_attention_norm > {MOE} ffn_gate_shexp ffn_up_shexp ffn_gate_inp_shexp" in found


def test_heads_of_a_group_share_scales(tmp_path: Path) -> None:
    fold = folds(tiny_models.write(tmp_path / "model.gguf", "llama"))[1]
    assert fold.size == tiny_models.KV_HEADS * tiny_models.HEAD
    one, two = np.arange(64).reshape(2, tiny_models.HEAD)
    assert np.array_equal(fold.columns("blk.0.attn_output.weight"), np.concatenate([one, one, two, two]))


def test_squares_of_relu_take_roots(tmp_path: Path, shipped_checkpoint: Path) -> None:
    found = folds(checkpoint(tmp_path, shipped_checkpoint, "nemotron"))
    powers = {change.tensor: change.power for change in found[3].changes()}
    assert powers["blk.0.ffn_up.weight"] == -0.5 and powers["blk.0.ffn_down.weight"] == 1


def test_experts_have_scales_of_their_own(tmp_path: Path) -> None:
    fold = folds(tiny_models.write(tmp_path / "model.gguf", "qwen3moe"))[3]
    assert fold.size == tiny_models.EXPERTS * tiny_models.INNER
    assert fold.columns("blk.0.ffn_down_exps.weight").shape == (tiny_models.EXPERTS, 1, tiny_models.INNER)
