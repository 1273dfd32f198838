"""Tiny random checkpoints in all the forms in which Hugging Face models come."""

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_torch import save_torch

from ggufpy.gguf.tensors import TensorSource
from ggufpy.quants.formats.floats import decode

Floats = NDArray[np.float32]
Array = NDArray[Any]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def weights(config: Mapping[str, Any], *, biases: bool = False) -> dict[str, Floats]:
    """Random weights for a configuration, under their Hugging Face names."""
    rng = np.random.default_rng(0)
    every = shapes(config, biases=biases).items()
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in every}


def shapes(config: Mapping[str, Any], *, biases: bool = False) -> dict[str, tuple[int, ...]]:
    hidden, inner, heads = (config[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads"))
    size = config.get("head_dim") or hidden // heads
    q, kv = heads * size, config["num_key_value_heads"] * size
    result: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        linears = {"q": (q, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, q)}
        linears |= {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
        for name, shape in linears.items():
            part = "self_attn" if name in "qkvo" else "mlp"
            prefix = f"model.layers.{layer}.{part}.{name}_proj"
            result[f"{prefix}.weight"] = shape
            if biases:
                result[f"{prefix}.bias"] = shape[:1]
        for name in ("input_layernorm", "post_attention_layernorm"):
            result[f"model.layers.{layer}.{name}.weight"] = (hidden,)
    result["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        result["lm_head.weight"] = (config["vocab_size"], hidden)
    return result


def rounded(x: Floats, dtype: str) -> Array:
    """Weights as a checkpoint of that dtype stores them; bf16 as uint16."""
    if dtype == "BF16":
        bits = x.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return x.astype({"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype])


def as_floats(stored: Array) -> Floats:
    """The values that `rounded` stored."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def checkpoint(
    folder: Path,
    tokenizer: Path,
    config: Mapping[str, Any] = CONFIG,
    *,
    dtype: str = "BF16",
    shards: int = 1,
    torch: bool = False,
    biases: bool = False,
) -> dict[str, Floats]:
    """Write a checkpoint with the tokenizer files of another; returns the values of its weights."""
    stored = {name: rounded(x, dtype) for name, x in weights(config, biases=biases).items()}
    write(folder, tokenizer, config)
    save(folder, stored, shards=shards, torch=torch)
    return {name: as_floats(x) for name, x in stored.items()}


def write(folder: Path, tokenizer: Path, config: Mapping[str, Any]) -> None:
    """A checkpoint but for its weights, with the tokenizer files of another."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, folder / name)


def folder_with_config(folder: Path) -> Path:
    """The folder, now with a config.json."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def values(source: TensorSource) -> Array:
    """All numbers of a tensor."""
    return decode(source.read(0, source.rows), source.type).reshape(source.shape)


def some_tensors() -> dict[str, Array]:
    """One of each dtype, of several ranks."""
    rng = np.random.default_rng(5)
    return {
        "a.weight": rng.standard_normal((7, 5)).astype(np.float32),
        "b.weight": rng.standard_normal((3, 4)).astype(np.float16),
        "c.weight": rng.integers(0, 1 << 15, (6, 2)).astype(np.uint16),
        "d.bias": rng.standard_normal(9),
        "e": np.array(3.5, np.float32),
        "f.weight": rng.standard_normal((2, 3, 4)).astype(np.float32),
    }


def save(folder: Path, tensors: Mapping[str, Array], *, shards: int = 1, torch: bool = False) -> None:
    """Write the weight files, and their index if there are several."""
    stem, ending = ("pytorch_model", ".bin") if torch else ("model", ".safetensors")
    save_one = save_torch if torch else save_safetensors
    if shards == 1:
        save_one(folder / f"{stem}{ending}", tensors)
        return
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for n in range(shards):
        file = f"{stem}-{n + 1:05}-of-{shards:05}{ending}"
        part = names[n * len(names) // shards : (n + 1) * len(names) // shards]
        save_one(folder / file, {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    (folder / f"{stem}{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


SAFETENSORS_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "uint16": "BF16",
    "int64": "I64",
    "uint8": "U8",
}


def save_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, x in tensors.items():
        span = [offset, offset + x.nbytes]
        dtype = SAFETENSORS_NAMES[x.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": span}
        offset += x.nbytes
    write_safetensors(path, header, b"".join(np.ascontiguousarray(x).tobytes() for x in tensors.values()))


def write_safetensors(path: Path, header: object, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
