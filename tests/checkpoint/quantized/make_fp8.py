"""Write data/fp8 by what transformers quantizes with, and what it decodes that to.

Run by hand, with transformers 5.24.0 and torch 2.13.0:

    python tests/checkpoint/quantized/make_fp8.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

OUT = Path(__file__).parent / "data" / "fp8"
ROWS, COLUMNS = 16, 128
KEPT = slice(0, None, 5)  # rows of what they decode to
WAYS = {
    "blocks": {"weight_block_size": (8, 32)},
    "powers": {"weight_block_size": (8, 32), "scale_fmt": "ue8m0"},
    "whole": {"weight_block_size": None},
}


def main():
    torch.manual_seed(0)
    tensors, decoded = {}, {}
    for name, way in WAYS.items():
        config = FineGrainedFP8Config(**way)
        quantizer = SimpleNamespace(quantization_config=config)
        key = f"mlp.{name}.weight"
        weight = torch.randn(ROWS, COLUMNS) / COLUMNS**0.5
        made = Fp8Quantize(quantizer).convert({key: weight})
        scale = made[key + "_scale_inv"]
        if name == "whole":  # as released models have it
            made[key + "_scale_inv"] = scale.reshape(())
        tensors |= made
        values = Fp8Dequantize(quantizer)._dequantize_one(made[key], scale, torch.float32)
        decoded[name] = values.numpy()[KEPT]
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT / "model.safetensors")
    settings = FineGrainedFP8Config(**WAYS["blocks"]).to_dict()
    (OUT / "config.json").write_text(json.dumps({"quantization_config": settings}))
    np.savez_compressed(OUT / "decoded.npz", **decoded)


if __name__ == "__main__":
    main()
