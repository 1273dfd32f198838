"""Write data/mlx with MLX itself: a module for each way of packing, and what they decode to.

Run by hand, with mlx 0.32.4 (mlx[cpu]):

    python tests/checkpoint/quantized/make_mlx.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

OUT = Path(__file__).parent / "data" / "mlx"
ROWS, COLUMNS = 16, 128
KEPT = slice(0, None, 5)  # rows of what they decode to

# As `config.json` has them: of all modules, and of one.
USUAL = {"group_size": 64, "bits": 4, "mode": "affine"}
OWN = {
    "int4": {},
    "int2": {"group_size": 32, "bits": 2},
    "int3": {"group_size": 64, "bits": 3},
    "int5": {"group_size": 32, "bits": 5},
    "int6": {"group_size": 64, "bits": 6},
    "int8": {"group_size": 128, "bits": 8},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
    "mxfp8": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
    "nvfp4": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
}


def main():
    mx.random.seed(0)
    model = nn.Module()
    model.mlp = nn.Module()
    for name in OWN:
        linear = nn.Linear(COLUMNS, ROWS, bias=False)
        linear.weight = linear.weight.astype(mx.bfloat16)
        setattr(model.mlp, name, linear)
    model.mlp.plain = nn.Linear(8, 4, bias=False)
    settings = {f"mlp.{name}": {**USUAL, **own} for name, own in OWN.items() if own}
    nn.quantize(
        model, **USUAL, class_predicate=lambda path, _: path != "mlp.plain" and settings.get(path, True)
    )
    OUT.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(
        str(OUT / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"}
    )
    settings = {**USUAL, **settings, "mlp.plain": False}
    (OUT / "config.json").write_text(
        json.dumps({"quantization": settings, "quantization_config": settings}, indent=1)
    )
    decoded = {}
    for name in OWN:
        parts = {
            key: x if x.dtype != mx.bfloat16 else x.astype(mx.float32)
            for key, x in getattr(model.mlp, name).items()
        }
        how = {**USUAL, **OWN[name]}
        w = mx.dequantize(
            parts["weight"],
            parts["scales"],
            parts.get("biases"),
            how["group_size"],
            how["bits"],
            how["mode"],
            dtype=mx.float32,
        )
        decoded[name] = np.array(w)[KEPT]
    np.savez_compressed(OUT / "decoded.npz", **decoded)


if __name__ == "__main__":
    main()
