"""Residual streams that are turned: the same logits, and blocks that are easier to round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models
from engines import load, nmse, prompt_logits
from oracle import Oracle, needs_oracle
from test_folding import TOKENS, checkpoint
from test_scales import CHUNKS, blocks, unseen

from ggufpy.calibrate import preparing, rotation
from ggufpy.calibrate.fold_inputs import mean_error
from ggufpy.calibrate.rotation import blocks_cost, learned
from ggufpy.calibrate.turning import turned
from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_STEPS", 3)


@pytest.mark.parametrize("name", ["llama", "mistral3", "qwen3moe", "gpt-oss", "deepseek2", "mamba2"])
def test_logits_stay(tmp_path: Path, name: str, few_steps: None) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", name)
    other = turned(path, blocks(path), tmp_path / "turned.gguf")
    assert nmse(prompt_logits(load(other), TOKENS), prompt_logits(load(path), TOKENS)) < 1e-8
    norms = [info for name, info in GGUFFile.open(other).tensors.items() if name.endswith("attn_norm.weight")]
    assert norms and all((info.data.view(np.float32) == 1).all() for info in norms)


@needs_oracle
@pytest.mark.parametrize("name", ["granite", "qwen35", "granitehybrid"])
def test_llama_cpp_computes_the_same(
    tmp_path: Path, shipped_checkpoint: Path, name: str, few_steps: None
) -> None:
    path = checkpoint(tmp_path, shipped_checkpoint, name)
    other = turned(path, blocks(path), tmp_path / "turned.gguf")
    with Oracle(path, kv_f32=True) as before, Oracle(other, kv_f32=True) as after:
        assert nmse(after.logits(TOKENS), before.logits(TOKENS)) < 1e-8


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("qwen3", "its output is its embedding"),
        ("gemma3", "norms stand between its layers' results and the stream"),
        ("phimoe", "its norms take off the mean, or have a bias"),
        ("gemma3n", "its values have 64 channels, its stream 128"),
        ("qwen3next", "a node Vector reads what a norm makes"),
    ],
)
def test_streams_that_cannot_be_turned(tmp_path: Path, name: str, reason: str) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", name)
    with pytest.raises(UnsupportedModelError, match=f"model.gguf: the residual stream .* turned: {reason}"):
        turned(path, blocks(path), tmp_path / "turned.gguf")
    assert not (tmp_path / "turned.gguf").exists()


def test_nothing_becomes_blocks(tmp_path: Path) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", "llama")
    with pytest.raises(UnsupportedModelError, match="no matrices that read and write the residual stream"):
        turned(path, {}, tmp_path / "turned.gguf")


@pytest.mark.parametrize("errors", [(2.0, 1.0), (1.0, 2.0)], ids=["helps", "harms"])
def test_kept_if_it_helps(
    tmp_path: Path, errors: tuple[float, float], few_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said, found = tiny_models.write(tmp_path / "model.gguf", "llama"), list[str](), iter(errors)
    monkeypatch.setattr(preparing, "mean_error", lambda *given, **more: next(found))
    other = preparing.prepared(
        path, ["rotate"], blocks(path), CHUNKS, tmp_path, n_threads=1, counted=unseen, say=said.append
    )
    if errors[1] > errors[0]:
        assert other == path and said == ["rotate is left out: linears would err by 2 instead of 1"]
    assert (other == path) == bool(said) == (errors[1] > errors[0])
    assert len(list(tmp_path.glob("*.gguf"))) == 1 + (other != path)


def test_errors_of_linears(tmp_path: Path) -> None:
    """Types of fewer bits have larger ones."""
    file = GGUFFile.open(tiny_models.write(tmp_path / "model.gguf", "llama"))
    errors = []
    for type in (GGMLType.Q8_0, GGMLType.Q4_0):
        types = dict.fromkeys(blocks(file.path), type)
        errors.append(mean_error(file, types, CHUNKS, {}, n_threads=1, on_layer=lambda done, total: None))
    assert 0 < errors[0] < 1e-3 < errors[1] < 1e-1


def test_what_is_learned() -> None:
    """A rotation that was hidden in weights without outliers is found well enough to undo most of it."""
    rng = np.random.default_rng(0)
    hidden = np.linalg.qr(rng.standard_normal((64, 64)))[0].astype(np.float32)
    flat = rng.choice(np.array([-1, 1], np.float32), (256, 64))
    readers, writers = flat @ hidden.T, hidden @ flat.T
    turn = learned(readers, writers)
    np.testing.assert_allclose(turn.T @ turn, np.eye(64), atol=1e-5)
    before = blocks_cost(readers)[0] + blocks_cost(writers)[0]
    least = blocks_cost(flat)[0] + blocks_cost(np.ascontiguousarray(flat.T))[0]
    after = blocks_cost(readers @ turn)[0] + blocks_cost(turn.T @ writers)[0]
    assert after < 0.65 * before and least < after


def test_slopes_of_the_cost() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 64)).astype(np.float32)
    x[1, 32:] = 0
    step, gradient = rng.standard_normal(x.shape).astype(np.float32), blocks_cost(x)[1]
    step[1, 32:] = 0
    ahead, behind = (blocks_cost(x + sign * np.float32(1e-2) * step)[0] for sign in (1, -1))
    assert (ahead - behind) / 2e-2 == pytest.approx(float((gradient * step).sum()), rel=1e-2)
