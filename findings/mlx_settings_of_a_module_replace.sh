#!/usr/bin/env bash
# The settings that MLX has for one module replace those of the whole model; they are not merged with them. What a module
# leaves out is not the model's but MLX's default (mode affine, groups of 64). So in a model of mxfp8 (8 bits, groups of
# 32) a module of which the predicate says {"bits": 8}, what the model has anyway, gets groups of 64 in mode affine, and
# mlx-lm writes and loads it so: {"group_size": 32, "bits": 8, "mode": "mxfp8", MODULE: {"bits": 8}}. The same config.json
# over that module's mxfp8 tensors, what a merging reader expects, is an error. A surprise for who writes a predicate
# (nothing is said, the sizes are others) and for who reads `quantization` of config.json in another program.
#
# Seen with mlx 0.32.4 on a CPU, mlx-lm 0.32.2, transformers 5.24.0.
# Output: "file: mxfp8 8 32, bits 8; loaded: up_proj mxfp8 8 32, down_proj affine 8 64; merged: ValueError".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0
cat > "$folder/run.py" <<'PYTHON'
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.models import llama
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

mx.set_default_device(mx.cpu)
NAME = "model.layers.0.mlp.down_proj"
CONFIG = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
CONFIG |= {"num_attention_heads": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 96}


def quantized(path, predicate):
    """A random llama in mxfp8, saved to a folder; its config, as mlx-lm makes it."""
    path.mkdir()
    mx.random.seed(1)
    model, config = quantize_model(
        llama.Model(llama.ModelArgs.from_dict(CONFIG)), dict(CONFIG), 32, 8, mode="mxfp8", quant_predicate=predicate
    )
    save_model(path, model)
    save_config(dict(config), path / "config.json")
    return config


def kind(module):
    return f"{module.mode} {module.bits} {module.group_size}"


one, other = Path(sys.argv[1], "one"), Path(sys.argv[1], "other")
config = quantized(one, lambda name, module: {"bits": 8} if name == NAME else True)
whole, own = config["quantization"], config["quantization"][NAME]
said = f"{whole['mode']} {whole['bits']} {whole['group_size']}, " + ", ".join(f"{key} {own[key]}" for key in own)
mlp = load_model(one)[0].model.layers[0].mlp

quantized(other, lambda name, module: True)
save_config(dict(config), other / "config.json")
try:
    merged = kind(load_model(other)[0].model.layers[0].mlp.down_proj)
except ValueError as error:
    assert "down_proj" in str(error), error
    merged = "ValueError"
print(f"file: {said}; loaded: up_proj {kind(mlp.up_proj)}, down_proj {kind(mlp.down_proj)}; merged: {merged}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/run.py" "$folder" | tail -n 1)
echo "$seen"
[ "$seen" = "file: mxfp8 8 32, bits 8; loaded: up_proj mxfp8 8 32, down_proj affine 8 64; merged: ValueError" ]
