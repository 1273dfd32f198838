"""Write data/gptq_v1 and data/gptq_v2 with GPTQModel: a module for each kind, and what they decode to.

Run by hand, with gptqmodel 7.7.0 (its sdist on PYTHONPATH), torch 2.13.0 and safetensors 0.8.0:

    python tests/checkpoint/quantized/make_gptq.py
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
from pathlib import Path

import numpy as np
import torch
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.quantization import QuantizeConfig
from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
from safetensors.torch import save_file

DATA = Path(__file__).parent / "data"
ROWS, COLUMNS, GROUP = 32, 64, 32
KEPT = slice(0, None, 5)  # rows of what they decode to

# Bits, symmetric, act-order.
KINDS = {
    "int2": (2, True, False),
    "int2_asymmetric": (2, False, False),
    "int3": (3, True, False),
    "int3_asymmetric": (3, False, False),
    "int4": (4, True, False),
    "int4_asymmetric": (4, False, False),
    "int4_ordered": (4, True, True),
    "int8": (8, True, False),
    "int8_asymmetric": (8, False, False),
}


def packed(bits: int, symmetric: bool, ordered: bool) -> TorchLinear:
    linear = torch.nn.Linear(COLUMNS, ROWS, bias=False, dtype=torch.float16)
    group_of = torch.arange(COLUMNS, dtype=torch.int32) // GROUP
    if ordered:
        group_of = group_of[torch.randperm(COLUMNS)]
    groups, most = COLUMNS // GROUP, (1 << bits) - 1
    scales = torch.rand(ROWS, groups) / (4 * most) + 1e-3
    zeros = torch.full((ROWS, groups), float(most // 2 + 1))
    if not symmetric:
        zeros = torch.randint(0, most + 1, (ROWS, groups)).float()
    module = TorchLinear(bits, GROUP, symmetric, ordered, COLUMNS, ROWS, False, torch.int32)
    module.pack_original(linear, scales, zeros, group_of)
    return module


def decoded(module: TorchLinear) -> np.ndarray:
    module.scales = module.scales.float()
    module.dequant_dtype = torch.int16
    module.optimize = lambda *_, **__: None
    module.post_init()
    return module.dequantize_weight().T.numpy()[KEPT]


def main() -> None:
    for form in ("gptq", "gptq_v2"):
        torch.manual_seed(0)
        tensors, weights, dynamic = {}, {}, {}
        for name, (bits, symmetric, ordered) in KINDS.items():
            module = packed(bits, symmetric, ordered)
            state = {key: x.clone() for key, x in module.state_dict().items()}
            weights[name] = decoded(module)
            if form == "gptq":
                module.qzeros = state["qzeros"].clone()
                convert_gptq_v2_to_v1_format_module(module, QuantizeConfig(bits=bits, group_size=GROUP))
                state["qzeros"] = module.qzeros
            tensors |= {f"mlp.{name}.{key}": x.contiguous() for key, x in state.items()}
            dynamic[rf"mlp\.{name}$"] = {"bits": bits, "sym": symmetric, "desc_act": ordered}
        settings = QuantizeConfig(bits=4, group_size=GROUP, dynamic=dynamic, format=form).to_dict()
        del settings["meta"]["offload_to_disk_path"]
        folder = DATA / ("gptq_v1" if form == "gptq" else form)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(
            json.dumps({"quantization_config": settings}, indent=1, default=str)
        )
        save_file(tensors, folder / "model.safetensors")
        np.savez_compressed(folder / "decoded.npz", **weights)


if __name__ == "__main__":
    main()
