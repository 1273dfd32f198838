"""Tiny random Llama files, scaled so that attention matters: other early tokens give other late logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import write_gguf

VOCAB, WIDTH, FFN, LAYERS, HEADS, KV_HEADS, CONTEXT = 128, 256, 512, 2, 4, 2, 4096

TOKENS = [int(t) for t in np.random.default_rng(7).integers(0, VOCAB, 70)]


def nmse(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    """Squared error in units of the squared signal."""
    return float(((got.astype(np.float64) - want) ** 2).sum() / (want.astype(np.float64) ** 2).sum())


def metadata(**changed: Value) -> dict[str, Value | Typed]:
    """Hyperparameters and a vocabulary of no meaning; `changed` replaces or adds keys ("_" for ".")."""
    values: dict[str, Value | Typed] = {
        "general.architecture": "llama",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": FFN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        **vocabulary(VOCAB),
    }
    return values | {key.replace("__", "."): value for key, value in changed.items()}


def vocabulary(size: int) -> dict[str, Value | Typed]:
    """Tokens of no meaning."""
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(size - 3))],
        "tokenizer.ggml.scores": [0.0] * size,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * (size - 3)],
    }


def arrays(seed: int = 0, biases: bool = False, tied: bool = False) -> dict[str, NDArray[np.float32]]:
    """All tensors of the model, by GGUF name."""
    rng = np.random.default_rng(seed)
    kv_width = WIDTH // HEADS * KV_HEADS
    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (kv_width, WIDTH),
        "attn_v": (kv_width, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (FFN, WIDTH),
        "ffn_up": (FFN, WIDTH),
        "ffn_down": (WIDTH, FFN),
    }
    result = {"token_embd.weight": rng.standard_normal((VOCAB, WIDTH), np.float32)}
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            scale = 2.0 if name in ("attn_q", "attn_k") else 1.5
            weight = rng.standard_normal(shape, np.float32) * np.float32(scale / shape[1] ** 0.5)
            result[f"blk.{layer}.{name}.weight"] = weight
            if biases:
                result[f"blk.{layer}.{name}.bias"] = rng.standard_normal(shape[0], np.float32)
        for name in ("attn_norm", "ffn_norm"):
            result[f"blk.{layer}.{name}.weight"] = 1 + 0.2 * rng.standard_normal(WIDTH, np.float32)
    result["output_norm.weight"] = 1 + 0.2 * rng.standard_normal(WIDTH, np.float32)
    if not tied:
        result["output.weight"] = rng.standard_normal((VOCAB, WIDTH), np.float32) / np.float32(16)
    return result


def source(name: str, array: NDArray[np.float32]) -> TensorSource:
    """An array as an F32 tensor."""
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1])
    return TensorSource(name, array.shape, GGMLType.F32, lambda start, stop: rows[start:stop].view(np.uint8))


def write(path: Path, tensors: dict[str, NDArray[np.float32]], **changed: Value) -> Path:
    """Write a model file and return its path."""
    write_gguf(path, metadata(**changed), [source(name, array) for name, array in tensors.items()])
    return path


def widened(info: TensorInfo) -> TensorSource:
    """An F16 tensor of a file as F32, which is exact; others as they are."""
    rows = info.source()
    if info.type is not GGMLType.F16:
        return rows
    return replace(
        rows,
        type=GGMLType.F32,
        read=lambda start, stop: rows.read(start, stop).view(np.float16).astype(np.float32).view(np.uint8),
    )


def write_widened(path: Path, file: GGUFFile) -> Path:
    """Copy a file with its F16 tensors as F32."""
    values = {key: Typed(value, file.value_types[key]) for key, value in file.metadata.items()}
    write_gguf(path, values, [widened(info) for info in file.tensors.values()])
    return path
