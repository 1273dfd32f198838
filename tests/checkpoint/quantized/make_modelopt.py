"""Write data/modelopt_* with NVIDIA's Model Optimizer: a linear of a tiny Llama, and what it decodes to.

Run by hand, with nvidia-modelopt 0.47.0, transformers 5.24.0 and torch 2.13.0:

    python tests/checkpoint/quantized/make_modelopt.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
import tempfile
from pathlib import Path

import modelopt.torch.quantization as mtq
import numpy as np
import torch
from modelopt.torch.export import export_hf_checkpoint
from modelopt.torch.quantization.qtensor import FP8QTensor, NVFP4QTensor
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

NAME = "model.layers.0.mlp.down_proj"
KEPT = slice(0, None, 5)  # rows of what it decodes to
CONFIG = LlamaConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=128,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=16,
    architectures=["LlamaForCausalLM"],
)


def decode(tensors):
    """The weight, by the library."""
    weight, scale = tensors[f"{NAME}.weight"], tensors[f"{NAME}.weight_scale"]
    if weight.dtype is torch.uint8:
        shape = torch.Size((weight.shape[0], weight.shape[1] * 2))
        factor = tensors[f"{NAME}.weight_scale_2"]
        packed = NVFP4QTensor(shape, torch.float32, weight)
        return packed.dequantize(torch.float32, scale=scale, double_scale=factor, block_sizes={-1: 16})
    return FP8QTensor(weight.shape, torch.float32, weight).dequantize(torch.float32, scale=scale)


def export(how, out):
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG)
    mtq.quantize(model, how, lambda model: model(torch.arange(8)[None]))
    with tempfile.TemporaryDirectory() as folder:
        export_hf_checkpoint(model, dtype=torch.float32, export_dir=folder)
        tensors = load_file(Path(folder) / "model.safetensors")
        config = json.loads((Path(folder) / "config.json").read_text())
        beside = (Path(folder) / "hf_quant_config.json").read_text()
    out.mkdir(parents=True, exist_ok=True)
    kept = {name: x for name, x in tensors.items() if name.startswith(NAME)}
    save_file(kept, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps({"quantization_config": config["quantization_config"]}))
    (out / "hf_quant_config.json").write_text(beside)
    np.savez_compressed(out / "decoded.npz", down_proj=decode(kept).numpy()[KEPT])


def main():
    for name, how in (("fp8", mtq.FP8_DEFAULT_CFG), ("nvfp4", mtq.NVFP4_DEFAULT_CFG)):
        export(how, Path(__file__).parent / "data" / f"modelopt_{name}")


if __name__ == "__main__":
    main()
