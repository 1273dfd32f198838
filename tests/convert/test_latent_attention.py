"""Latent attention in the files of 2024: keys and values of all heads are made, by one matrix."""

from pathlib import Path

import numpy as np
import tiny
from conversion import logits
from random_llama import nmse, source
from tiny_checkpoints import TOKENS, Model, models

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.writer import write_gguf


def test_one_matrix_for_keys_and_values(tmp_path: Path, shipped_checkpoint: Path) -> None:
    (model,) = (model for model in models() if model.name == "deepseek2")
    old = tmp_path / "old.gguf"
    write_as_of_2024(old, tmp_path / "model", shipped_checkpoint, model)
    assert nmse(logits(old, TOKENS)[:, model.columns], model.logits) < 1e-9


def write_as_of_2024(path: Path, folder: Path, tokenizer: Path, model: Model) -> None:
    tiny.write(folder, tokenizer, model.config)
    weights = model.weights()
    tiny.save(folder, weights)
    (new,) = convert_checkpoint(folder, outtype="f32")
    with GGUFFile.open(new) as file:
        keys = {key: value for key, value in file.metadata.items() if not key.endswith("_mla")}
        for name, value in (("head_count_kv", 4), ("key_length", 24), ("value_length", 12)):
            keys[f"deepseek2.attention.{name}"] = value
        tensors = []
        for name, tensor in file.tensors.items():
            if name.endswith("attn_k_b.weight"):
                layer = name.split(".")[1]
                x = weights[f"model.layers.{layer}.self_attn.kv_b_proj.weight"]
                tensors.append(source(f"blk.{layer}.attn_kv_b.weight", np.ascontiguousarray(x)))
            elif not name.endswith("attn_v_b.weight"):
                tensors.append(tensor.source())
        write_gguf(path, keys, tensors)
