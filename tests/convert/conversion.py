"""Converting a tiny checkpoint and checking every byte of every tensor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from engines import append
from numpy.typing import NDArray
from tiny import Floats

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import encode
from ggufpy.quants.choice.presets import find_preset
from ggufpy.quants.choice.recipe import Facts, choose_types, converter_type, visiting_order
from ggufpy.runtime.engine import Engine

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


def interleave(x: Floats, heads: int) -> Floats:
    """What llama.cpp's converter does to q and k: halves of each head become pairs."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def expected(weights: Mapping[str, Floats], config: Mapping[str, Any]) -> dict[str, Floats]:
    result = {}
    for name, x in weights.items():
        stem, _, ending = name.rpartition(".")
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            target = f"blk.{layer}.{NAMES[part]}"
        else:
            target = NAMES[stem]
        if target.endswith("attn_q"):
            x = interleave(x, config["num_attention_heads"])
        if target.endswith("attn_k"):
            x = interleave(x, config["num_key_value_heads"])
        result[f"{target}.{ending}"] = x
    return result


def convert_and_compare(
    folder: Path, tokenizer: Path, config: dict[str, Any], outtype: str, **form: Any
) -> GGUFFile:
    """Convert a tiny checkpoint and check every byte of every tensor; returns the open file."""
    weights = tiny.checkpoint(folder, tokenizer, config, **form)
    (path,) = convert_checkpoint(folder, outtype=outtype)
    file = GGUFFile.open(path)
    want = expected(weights, config)
    types = expected_types({name: x.shape for name, x in want.items()}, config, file_type(outtype, form))
    assert set(file.tensors) - {"rope_freqs.weight"} == set(want)
    for name, x in want.items():
        info = file.tensors[name]
        type = info.type
        assert info.shape == x.shape
        assert type is types[name]
        assert info.data.tobytes() == encode(x.reshape(-1, x.shape[-1]), type).tobytes(), name
    return file


def logits(path: Path, tokens: list[int], output: str = "logits") -> NDArray[np.float32]:
    """What ggufpy computes: (tokens, vocabulary), all in f32; or another output."""
    with GGUFFile.open(path) as file:
        engine = Engine.load(file, n_ctx=64, precision="exact", n_threads=1, outputs=(output,))
        return append(engine, engine.new_sequence(), tokens, logits="all")


def expected_types(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], outtype: str
) -> dict[str, GGMLType]:
    preset = find_preset(outtype)
    if preset.is_float:
        return {name: converter_type(name, shape, preset.type) for name, shape in shapes.items()}
    layers, heads, kv_heads = (
        config[f"num_{key}"] for key in ("hidden_layers", "attention_heads", "key_value_heads")
    )
    tensors = sorted(shapes.items(), key=lambda pair: visiting_order(pair[0]))
    decisions = choose_types(Facts("llama", layers, heads, kv_heads), tensors, preset)
    return {name: each.type or GGMLType.F32 for (name, _), each in zip(tensors, decisions, strict=True)}


def file_type(outtype: str, form: Mapping[str, Any]) -> str:
    """The outtype that "auto" stands for, others as they are."""
    auto = "bf16" if form.get("dtype", "BF16") == "BF16" else "f16"
    return auto if outtype == "auto" else outtype
