"""Write data/hqq with HQQ itself: a module for each kind, and what they decode to.

Run by hand, with hqq 0.2.8.post1, torch 2.13.0 and safetensors 0.8.0:

    python tests/checkpoint/quantized/make_hqq.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
from pathlib import Path

import numpy as np
import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
from safetensors.torch import save_file

OUT = Path(__file__).parent / "data" / "hqq"
ROWS, COLUMNS = 24, 96
KEPT = slice(0, None, 5)  # rows of what they decode to

KINDS = {
    **{f"int{bits}": {"nbits": bits, "group_size": 32, "axis": 1} for bits in (1, 2, 3, 4, 5, 8)},
    "ternary": {"nbits": 1.58, "group_size": 32, "axis": 1},
    "int4_across": {"nbits": 4, "group_size": 64, "axis": 1},
    "int4_columns": {"nbits": 4, "group_size": 64, "axis": 0},
    "int3_columns": {"nbits": 3, "group_size": 64, "axis": 0},
    "int4_as_float": {"nbits": 4, "group_size": 32, "axis": 1, "view_as_float": True},
}


def main() -> None:
    torch.manual_seed(0)
    tensors, weights = {}, {}
    for name, kind in KINDS.items():
        linear = torch.nn.Linear(COLUMNS, ROWS, bias=False)
        module = HQQLinear(linear, BaseQuantizeConfig(**kind), compute_dtype=torch.float32, device="cpu")
        half = {"scale", "zero"}
        for key in half:
            module.meta[key] = module.meta[key].half().float()
        weights[name] = module.dequantize().numpy()[KEPT]
        for key, x in module.state_dict().items():
            tensors[f"mlp.{name}.{key}"] = (x.half() if key in half else x).contiguous()
    OUT.mkdir(parents=True, exist_ok=True)
    settings = {
        "quant_method": "hqq",
        "quant_config": BaseQuantizeConfig(**KINDS["int4"]),
        "skip_modules": [],
    }
    (OUT / "config.json").write_text(json.dumps({"quantization_config": settings}, indent=1))
    save_file(tensors, OUT / "model.safetensors")
    np.savez_compressed(OUT / "decoded.npz", **weights)


if __name__ == "__main__":
    main()
