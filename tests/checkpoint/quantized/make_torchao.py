"""Write data/torchao with that library: a module for each kind that CPUs make, and what they decode to.

Run by hand, with torchao 0.18.0, torch 2.13.0 and safetensors 0.8.0:

    python tests/checkpoint/quantized/make_torchao.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
from torchao.quantization import (
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    MappingType,
    quantize_,
)
from torchao.quantization.granularity import PerAxis, PerGroup

OUT = Path(__file__).parent / "data" / "torchao"
ROWS, COLUMNS = 16, 64
KEPT = slice(0, None, 5)  # rows of what they decode to
GROUPS = PerGroup(32)

KINDS = {
    "int8": Int8WeightOnlyConfig(),
    "int8_groups": Int8WeightOnlyConfig(granularity=GROUPS),
    "int8_dynamic": Int8DynamicActivationInt8WeightConfig(),
    "intx2": IntxWeightOnlyConfig(weight_dtype=torch.int2, granularity=GROUPS),
    "intx4": IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=GROUPS),
    "intx4_asymmetric": IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=GROUPS, mapping_type=MappingType.ASYMMETRIC
    ),
    "intx6": IntxWeightOnlyConfig(weight_dtype=torch.int6, granularity=PerAxis(0)),
    "float8": Float8WeightOnlyConfig(),
}


def decoded(weight: torch.Tensor) -> torch.Tensor:
    """In f32, so that nothing is rounded."""
    if hasattr(weight, "zero_point"):
        shape = (*weight.scale.shape, -1)
        zeros = 0 if weight.zero_point is None else weight.zero_point.float()[..., None]
        of_groups = weight.qdata.reshape(shape).float() - zeros
        x = (of_groups * weight.scale.float()[..., None]).reshape(weight.shape)
    else:
        x = weight.qdata.float() * weight.scale
    assert torch.allclose(x, weight.dequantize().float(), rtol=1e-2, atol=1e-6)
    return x


def main() -> None:
    torch.manual_seed(0)
    model, weights = torch.nn.Module(), {}
    model.mlp = torch.nn.Module()
    for name, kind in KINDS.items():
        holder = torch.nn.Sequential(torch.nn.Linear(COLUMNS, ROWS, bias=False, dtype=torch.bfloat16))
        quantize_(holder, kind)
        setattr(model.mlp, name, holder[0])
        weights[name] = decoded(holder[0].weight).detach().numpy()[KEPT]
    tensors, metadata = flatten_tensor_state_dict(model.state_dict())
    OUT.mkdir(parents=True, exist_ok=True)
    settings = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}
    (OUT / "config.json").write_text(json.dumps({"quantization_config": settings}, indent=1))
    save_file(tensors, OUT / "model.safetensors", {"format": "pt", **metadata})
    np.savez_compressed(OUT / "decoded.npz", **weights)


if __name__ == "__main__":
    main()
