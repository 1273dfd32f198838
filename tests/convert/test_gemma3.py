"""What is special in Gemma 3's checkpoints."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from tiny_checkpoints import Model, models

from ggufpy.architectures import Architecture, gemma2, gemma3
from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.gguf.reader import GGUFFile


def plain() -> Model:
    return next(model for model in models() if model.name == "gemma3")


def test_rows_for_images_are_left_out(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """Released configurations do not say how many rows there are: 64 more than the tokenizer has tokens."""
    model = plain()
    tiny.write(
        tmp_path, shipped_checkpoint, {key: x for key, x in model.config.items() if key != "vocab_size"}
    )
    weights = model.weights()
    name = "model.embed_tokens.weight"
    tiny.save(tmp_path, weights | {name: np.concatenate([weights[name], np.ones((64, 64), np.float32)])})
    with GGUFFile.open(convert_checkpoint(tmp_path, outtype="f32")[0]) as file:
        embedding = file.tensors["token_embd.weight"]
        assert embedding.shape == weights[name].shape
        assert embedding.data.tobytes() == weights[name].tobytes()


def test_what_released_configurations_leave_out() -> None:
    config = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    config |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}}  # type: ignore[dict-item]
    keys = gemma3.metadata(config)
    heads = {
        f"attention.{key}": keys[f"attention.{key}"] for key in ("head_count", "head_count_kv", "key_length")
    }
    assert heads == {"attention.head_count": 8, "attention.head_count_kv": 4, "attention.key_length": 256}
    assert (keys["context_length"], keys["rope.freq_base"], keys["rope.freq_base_swa"]) == (131072, 1e6, 1e4)
    assert "attention.scale" not in keys and "attention.sliding_window_pattern" not in keys


@pytest.mark.parametrize(
    ("network", "layers", "width", "scalar"), [(gemma2, 46, 4608, 144), (gemma3, 62, 5376, 168)]
)
def test_the_scale_of_27b_follows_from_its_layers(
    network: Architecture, layers: int, width: int, scalar: int
) -> None:
    config: dict[str, Any] = {"hidden_size": width, "intermediate_size": 21504, "num_attention_heads": 32}
    config |= {"num_hidden_layers": layers, "max_position_embeddings": 8192, "num_key_value_heads": 16}
    config |= {"head_dim": 128, "query_pre_attn_scalar": scalar}
    assert "attention.scale" not in network.metadata(config)
    assert gemma2.default_scale(layers, width, 32, 128, layers) == 1 / math.sqrt(scalar)
    changed = network.metadata(config | {"query_pre_attn_scalar": 128})
    assert changed["attention.scale"] == 128**-0.5


def test_a_model_without_windows_has_no_keys_of_them() -> None:
    keys = gemma3.metadata(plain().config | {"layer_types": ["full_attention"] * 6})
    assert not any("sliding" in key for key in keys)
