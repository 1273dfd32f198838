"""Checkpoints with params.json, as Mistral and Meta publish them: the files of those with config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from conversion import interleave
from safetensors.numpy import save_file
from test_other_files import RANKS, tekken
from tiny import CONFIG, Floats
from tiny_tokenizers import sentencepiece_model
from tiny_torch import save_torch

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import FormatError, GgufpyError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import load_tokenizer

MISTRAL: dict[str, Any] = {
    "dim": 64,
    "n_layers": 2,
    "head_dim": 16,
    "hidden_dim": 96,
    "n_heads": 4,
    "n_kv_heads": 2,
    "norm_eps": 1e-5,
    "vocab_size": 4096,
    "rope_theta": 10000.0,
}
META: dict[str, Any] = {
    key: value for key, value in MISTRAL.items() if key not in ("head_dim", "hidden_dim", "rope_theta")
} | {"multiple_of": 32, "vocab_size": -1}

NAMES = (
    ("model.", ""),
    ("embed_tokens", "tok_embeddings"),
    ("lm_head", "output"),
    ("input_layernorm", "attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attention.wq"),
    ("self_attn.k_proj", "attention.wk"),
    ("self_attn.v_proj", "attention.wv"),
    ("self_attn.o_proj", "attention.wo"),
    ("mlp.gate_proj", "feed_forward.w1"),
    ("mlp.down_proj", "feed_forward.w2"),
    ("mlp.up_proj", "feed_forward.w3"),
)


def published(weights: dict[str, Floats]) -> dict[str, Floats]:
    result = {}
    for name, x in weights.items():
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
        for theirs, ours in NAMES:
            name = name.replace(theirs, ours)
        result[name] = interleave(x, heads) if heads else x
    return result


def folder_of(path: Path, tokenizer: Path, params: dict[str, Any]) -> Path:
    tiny.write(path, tokenizer, {})
    (path / "config.json").unlink()
    (path / "params.json").write_text(json.dumps(params))
    return path


@pytest.mark.parametrize(
    ("params", "kind", "context"),
    [
        (MISTRAL, "Mistral", 32768),
        (MISTRAL | {"max_seq_len": 256, "sliding_window": 16}, "Mistral", 256),
        (META, "Llama", 4096),
        (META | {"rope_theta": 5e5}, "Llama", 8192),
    ],
    ids=["mistral", "window", "llama 2", "llama 3"],
)
def test_the_file_is_that_of_the_other_layout(
    tmp_path: Path, shipped_checkpoint: Path, params: dict[str, Any], kind: str, context: int
) -> None:
    weights = tiny.weights(CONFIG)
    ours = folder_of(tmp_path / "model", shipped_checkpoint, params)
    if kind == "Llama":
        save_torch(ours / "consolidated.00.pth", published(weights))
    else:
        save_file(published(weights), ours / "consolidated.safetensors")
    (path,) = convert_checkpoint(ours, tmp_path / "ours.gguf", outtype="f32")
    changed = {
        "architectures": [f"{kind}ForCausalLM"],
        "max_position_embeddings": context,
        "rope_theta": params.get("rope_theta", 10000.0),
        "sliding_window": params.get("sliding_window"),
    }
    (tmp_path / "model" / "params.json").unlink()
    tiny.write(tmp_path / "model", shipped_checkpoint, CONFIG | changed)
    tiny.save(tmp_path / "model", weights)
    (other,) = convert_checkpoint(tmp_path / "model", tmp_path / "other.gguf", outtype="f32")
    assert path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"use_scaled_rope": True}, "ggufpy does not know its use_scaled_rope; download"),
        ({"moe": {"num_experts": 2, "shared": 1}}, "does not know its moe"),
        ({"moe": 3}, "does not know its moe"),
        ({"n_heads": None}, "n_heads is None, it must be a number"),
        ({"dim": "64"}, "dim is '64', it must be a number"),
        ({"n_layers": 3}, "num_hidden_layers is 3, the checkpoint's tensors are of 2"),
    ],
    ids=str,
)
def test_what_is_refused(
    tmp_path: Path, shipped_checkpoint: Path, params: dict[str, Any], problem: str
) -> None:
    folder = folder_of(tmp_path / "model", shipped_checkpoint, MISTRAL | params)
    save_file(published(tiny.weights(CONFIG)), folder / "consolidated.safetensors")
    with pytest.raises((FormatError, UnsupportedModelError), match=problem):
        convert_checkpoint(folder)


def test_weights_in_parts_for_devices(tmp_path: Path, shipped_checkpoint: Path) -> None:
    folder = folder_of(tmp_path / "model", shipped_checkpoint, META)
    for number in range(2):
        (folder / f"consolidated.0{number}.pth").touch()
    with pytest.raises(GgufpyError, match="has a part of every matrix; download"):
        convert_checkpoint(folder)


def test_experts(tmp_path: Path, shipped_checkpoint: Path) -> None:
    params = MISTRAL | {"moe": {"num_experts": 2, "num_experts_per_tok": 1}}
    folder = folder_of(tmp_path / "model", shipped_checkpoint, params)
    weights = {}
    for name, x in published(tiny.weights(CONFIG)).items():
        for expert in range(2):
            part = f"feed_forward.experts.{expert}" if "feed_forward" in name else "feed_forward"
            weights[name.replace("feed_forward", part)] = x * (1 + expert)
    for layer in range(2):
        weights[f"layers.{layer}.feed_forward.gate.weight"] = tiny.weights(CONFIG)["model.norm.weight"][None]
    weights = {name: x.repeat(2, axis=0) if ".gate." in name else x for name, x in weights.items()}
    save_file(weights, folder / "consolidated.safetensors")
    (path,) = convert_checkpoint(folder, outtype="f32")
    file = GGUFFile.open(path)
    assert file.metadata["llama.expert_count"] == 2
    assert file.tensors["blk.1.ffn_down_exps.weight"].shape == (2, 64, 96)


@pytest.mark.parametrize("kind", ["tokenizer.model.v3", "tekken.json"])
def test_mistrals_own_tokenizers(tmp_path: Path, kind: str) -> None:
    """All that is beside the weights: params.json and one of these."""
    tokenizer = sentencepiece_model() if kind.endswith("v3") else tekken(RANKS)
    size = 400 if kind.endswith("v3") else len(RANKS) + 30
    (tmp_path / kind).write_bytes(tokenizer)
    (tmp_path / "params.json").write_text(json.dumps(MISTRAL | {"vocab_size": size}))
    save_file(published(tiny.weights(CONFIG | {"vocab_size": size})), tmp_path / "consolidated.safetensors")
    (path,) = convert_checkpoint(tmp_path, outtype="f32")
    file = GGUFFile.open(path)
    assert file.metadata["tokenizer.ggml.model"] == ("llama" if kind.endswith("v3") else "gpt2")
    assert load_tokenizer(file.metadata).n_vocab == size
    ids = load_tokenizer(file.metadata).encode("the fox")
    assert ids[0] == 1 and len(ids) > 2
