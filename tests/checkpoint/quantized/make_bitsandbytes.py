"""Write data/bitsandbytes with that library: a module for each kind, and what they decode to.

Run by hand, with bitsandbytes 0.50.2, torch 2.13.0 and safetensors 0.8.0:

    python tests/checkpoint/quantized/make_bitsandbytes.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
from pathlib import Path

import bitsandbytes as bnb
import numpy as np
import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent / "data" / "bitsandbytes"
ROWS, COLUMNS = 24, 96
KEPT = slice(0, None, 5)  # rows of what they decode to

KINDS = {
    "int8": None,
    "nf4": {"quant_type": "nf4", "compress_statistics": False},
    "nf4_double": {"quant_type": "nf4", "compress_statistics": True},
    "nf4_as_bf16": {"quant_type": "nf4", "compress_statistics": True, "quant_storage": torch.bfloat16},
    "fp4": {"quant_type": "fp4", "compress_statistics": False},
    "fp4_double": {"quant_type": "fp4", "compress_statistics": True},
}


def quantized(kind, linear: torch.nn.Linear) -> torch.nn.Module:
    if kind is None:
        module = bnb.nn.Linear8bitLt(COLUMNS, ROWS, bias=False, has_fp16_weights=False)
    else:
        module = bnb.nn.Linear4bit(COLUMNS, ROWS, bias=False, **kind)
    module.load_state_dict(linear.state_dict())
    return module.to("cpu")


def decoded(module: torch.nn.Module) -> torch.Tensor:
    weight = module.weight
    if isinstance(module, bnb.nn.Linear8bitLt):
        return weight.data.float() * (weight.SCB / 127)[:, None]
    weight.quant_state.dtype = torch.float32
    return bnb.functional.dequantize_4bit(weight.data, weight.quant_state)


def main() -> None:
    torch.manual_seed(0)
    tensors, weights = {}, {}
    for name, kind in KINDS.items():
        module = quantized(kind, torch.nn.Linear(COLUMNS, ROWS, bias=False, dtype=torch.float16))
        tensors |= {f"mlp.{name}.{key}": x.contiguous() for key, x in module.state_dict().items()}
        weights[name] = decoded(module).numpy()[KEPT]
    OUT.mkdir(parents=True, exist_ok=True)
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    (OUT / "config.json").write_text(json.dumps({"quantization_config": settings}, indent=1))
    save_file(tensors, OUT / "model.safetensors")
    np.savez_compressed(OUT / "decoded.npz", **weights)


if __name__ == "__main__":
    main()
