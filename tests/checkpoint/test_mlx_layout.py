"""Models as MLX saves them, not packed: the same files as from what transformers saves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tiny_checkpoints import models

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.gguf.reader import GGUFFile

Array = NDArray[np.float32]
NORMS = ("layernorm.weight", "model.norm.weight", "q_norm.weight", "k_norm.weight")
PROJECTIONS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


def as_mlx_saves(weights: Mapping[str, Array], *, ones: bool) -> dict[str, Array]:
    """By mlx_lm's models: experts in one tensor, axes of convolutions moved, one added to norms."""
    made: dict[str, Array] = {}
    for name, x in weights.items():
        if ".experts." in name:
            before, _, after = name.partition(".experts.")
            number, projection, part = after.split(".")
            key = f"{before}.switch_mlp.{PROJECTIONS.get(projection, projection)}.{part}"
            assert len(made.get(key, [])) == int(number)
            made[key] = np.concatenate([made[key], x[None]]) if key in made else x[None]
        elif name.endswith("conv1d.weight"):
            made[name] = np.moveaxis(x, 2, 1)
        else:
            made[name] = x + np.float32(1) if ones and name.endswith(NORMS) else x
    return made


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("qwen3next", ""), ("qwen35", "language_model."), ("qwen35moe", ""), ("mixtral", ""), ("olmoe", "")],
)
def test_models(tmp_path: Path, shipped_checkpoint: Path, name: str, prefix: str) -> None:
    model = next(model for model in models() if model.name == name)
    original = model.weights()
    changed = as_mlx_saves(original, ones=name.startswith("qwen3"))
    made: list[dict[str, tuple[str, Array]]] = []
    for folder, tensors in ((tmp_path / "original", original), (tmp_path / "mlx", changed)):
        tiny.write(folder, shipped_checkpoint, model.config)
        start = prefix if tensors is changed else ""
        named = {start + key: np.ascontiguousarray(x) for key, x in tensors.items()}
        save_file(named, folder / "model.safetensors", {"format": "mlx" if start else "pt"})
        (path,) = convert_checkpoint(folder, outtype="f32")
        made.append(contents(path))
    assert made[0].keys() == made[1].keys()
    for key, (type, x) in made[0].items():
        assert made[1][key][0] == type
        np.testing.assert_allclose(made[1][key][1], x, rtol=0, atol=1e-6, err_msg=key)


def contents(path: Path) -> dict[str, tuple[str, Any]]:
    with GGUFFile.open(path) as file:
        return {
            name: (tensor.type.label, np.array(tensor.data).view("<f4"))
            for name, tensor in file.tensors.items()
        }
