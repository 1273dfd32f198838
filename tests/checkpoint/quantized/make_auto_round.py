"""Write data/auto_round_* with AutoRound: two matrices of a tiny Llama in each of its formats for integers.

Run by hand, with auto-round 0.16.1, transformers 5.24.0, torch 2.13.0 and safetensors 0.8.0:

    python tests/checkpoint/quantized/make_auto_round.py FOLDER

FOLDER gets the whole checkpoints; what is there already is taken as it is.
"""

# mypy: ignore-errors
# The libraries are not installed where types are checked.

import json
import sys
from pathlib import Path

import numpy as np
import torch
from auto_round import AutoRound
from auto_round.export.export_to_awq.utils import dequantize_gemm
from auto_round_extension.torch.qlinear_torch import QuantLinear
from auto_round_extension.torch.qlinear_torch_zp import QuantLinear as QuantLinearLessOne
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
TOKENIZER = HERE.parents[2] / "models" / "pocket-wiki-7m-chat"
MODULES = ("self_attn.k_proj", "mlp.down_proj")
GROUP = 32
KEPT = slice(0, None, 5)  # rows of what they decode to

# The name of the format, whether it is symmetric.
KINDS = {
    "own": ("auto_round", True),
    "own_asymmetric": ("auto_round", False),
    "gptq": ("auto_gptq", True),
    "gptq_asymmetric": ("auto_gptq", False),
    "awq": ("auto_awq", True),
    "awq_asymmetric": ("auto_awq", False),
}


def tiny_llama(folder: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=4096, num_hidden_layers=1, max_position_embeddings=256, **sizes)
    LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    return folder


def exported(base: Path, folder: Path, form: str, symmetric: bool) -> Path:
    """The folder with the checkpoint, which some formats put one deeper."""
    if not folder.exists():
        how = {"bits": 4, "group_size": GROUP, "sym": symmetric, "iters": 0, "disable_opt_rtn": True}
        maker = AutoRound(str(base), device_map="cpu", seqlen=32, nsamples=2, **how)
        maker.quantize_and_save(str(folder), format=form)
    return next(folder.rglob("model.safetensors")).parent


def decoded(parts: dict[str, torch.Tensor], form: str, symmetric: bool) -> np.ndarray:
    """By AutoRound's own modules, with scales of f32, so that nothing is rounded."""
    parts = {**parts, "scales": parts["scales"].float()}
    if form == "auto_awq":
        return dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"], 4, GROUP).T.numpy()
    inputs, outputs = parts["qweight"].shape[0] * 8, parts["qweight"].shape[1]
    kind = QuantLinearLessOne if form == "auto_gptq" or symmetric else QuantLinear
    module = kind(4, GROUP, inputs, outputs, False)
    for name in ("qweight", "qzeros", "scales"):
        setattr(module, name, parts[name])
    module.post_init()
    return module(torch.eye(inputs)).T.numpy()


def main() -> None:
    work = Path(sys.argv[1])
    base = tiny_llama(work / "base")
    for name, (form, symmetric) in KINDS.items():
        folder = exported(base, work / name, form, symmetric)
        every = load_file(folder / "model.safetensors")
        tensors, weights = {}, {}
        for module in MODULES:
            stem = f"model.layers.0.{module}."
            parts = {key.removeprefix(stem): x for key, x in every.items() if key.startswith(stem)}
            tensors |= {stem + key: x for key, x in parts.items()}
            weights[module.split(".")[1]] = decoded(parts, form, symmetric)[KEPT]
        out = HERE / "data" / f"auto_round_{name}"
        out.mkdir(parents=True, exist_ok=True)
        settings = json.loads((folder / "config.json").read_text())["quantization_config"]
        (out / "config.json").write_text(json.dumps({"quantization_config": settings}, indent=1))
        save_file(tensors, out / "model.safetensors")
        np.savez_compressed(out / "decoded.npz", **weights)


if __name__ == "__main__":
    main()
