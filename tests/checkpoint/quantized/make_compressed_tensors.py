"""Write data/compressed_tensors with that library: a module for each scheme, and what they decode to.

Run by hand, with compressed-tensors 0.20.1, torch 2.13.0 and safetensors 0.8.0:

    python tests/checkpoint/quantized/make_compressed_tensors.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

from pathlib import Path

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor, ModelCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import save_file

OUT = Path(__file__).parent / "data" / "compressed_tensors"
ROWS, COLUMNS = 16, 128
KEPT = slice(0, None, 5)  # rows of what they decode to

DYNAMIC = {"num_bits": 8, "dynamic": True, "strategy": "token"}
GROUPS = {
    "int4": {"num_bits": 4, "strategy": "group", "group_size": 32},
    "int4_asymmetric": {"num_bits": 4, "strategy": "group", "group_size": 64, "symmetric": False},
    "int3": {"num_bits": 3, "strategy": "group", "group_size": 64},
    "int5_asymmetric": {"num_bits": 5, "strategy": "channel", "symmetric": False},
    "int6": {"num_bits": 6, "strategy": "channel"},
    "int8": {"num_bits": 8, "strategy": "channel"},
    "fp8_tensor": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    "fp8_channel": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "fp8_block": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [12, 48]},
    "nvfp4": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
    "mxfp4": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32},
    "mxfp6": {"num_bits": 6, "type": "float", "strategy": "group", "group_size": 32},
    "mxfp8": {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32},
}
SCALES = {"nvfp4": torch.float8_e4m3fn, "mxfp4": torch.uint8, "mxfp6": torch.uint8, "mxfp8": torch.uint8}


def blocks(weight, args):
    """The weights of each scale: (rows of scales, columns of scales, weights)."""
    rows, columns = weight.shape
    height, width = {
        "tensor": (rows, columns),
        "channel": (1, columns),
        "block": args.block_structure or (0, 0),
    }.get(args.strategy, (1, args.group_size))
    padded = torch.nn.functional.pad(weight, (0, -columns % width, 0, -rows % height))
    n, m = padded.shape[0] // height, padded.shape[1] // width
    return padded.reshape(n, height, m, width).permute(0, 2, 1, 3).reshape(n, m, -1)


def calibrate(module):
    """The scales and zero-points that its weights need."""
    args, weight = module.quantization_scheme.weights, module.weight.data
    factor = None
    if args.strategy == "tensor_group":
        factor = generate_gparam(weight.min(), weight.max())
        module.weight_global_scale.data = factor
    of_scales = blocks(weight, args)
    scale, zero = calculate_qparams(of_scales.amin(-1), of_scales.amax(-1), args, global_scale=factor)
    module.weight_scale.data = scale.reshape(module.weight_scale.shape).to(module.weight_scale.dtype)
    if hasattr(module, "weight_zero_point"):
        shape = module.weight_zero_point.shape
        module.weight_zero_point.data = zero.reshape(shape).to(module.weight_zero_point.dtype)


def decode(module):
    """The weights in f32: the library computes in the type of the scales, which is less exact."""
    scheme, state = module.quantization_scheme, dict(module.state_dict())
    if scheme.format == "nvfp4-pack-quantized":
        codes = unpack_fp4_from_uint8(state["weight_packed"], ROWS, COLUMNS, dtype=torch.float32)
        scale, factor = state["weight_scale"].float(), state["weight_global_scale"]
        weight = dequantize(codes, scale, args=scheme.weights, global_scale=factor, dtype=torch.float32)
    else:
        if state["weight_scale"].dtype is torch.bfloat16:
            state["weight_scale"] = state["weight_scale"].float()
        weight = BaseCompressor.get_value_from_registry(scheme.format.value).decompress(state, scheme)[
            "weight"
        ]
    return weight.float().numpy()[KEPT]


def main():
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.mlp = torch.nn.Module()
    groups = {}
    for name, args in GROUPS.items():
        linear = torch.nn.Linear(COLUMNS, ROWS, bias=False, dtype=torch.bfloat16)
        setattr(model.mlp, name, linear)
        weights = QuantizationArgs(**args, scale_dtype=SCALES.get(name))
        inputs = QuantizationArgs(**DYNAMIC) if name == "int8" else None
        target = f"re:.*mlp.{name}$" if "_" in name else f"mlp.{name}"
        groups[name] = QuantizationScheme(targets=[target], weights=weights, input_activations=inputs)
    apply_quantization_config(model, QuantizationConfig(config_groups=groups))
    for module in model.mlp.children():
        calibrate(module)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "config.json").write_text("{}")
    compressor.update_config(OUT)
    save_file({name: x.contiguous() for name, x in model.state_dict().items()}, OUT / "model.safetensors")
    decoded = {name: decode(module) for name, module in model.mlp.named_children()}
    np.savez_compressed(OUT / "decoded.npz", **decoded)


if __name__ == "__main__":
    main()
