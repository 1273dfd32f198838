#!/usr/bin/env bash
# llama.cpp loads `attn_output.bias` of ernie4_5 models and never adds it, so a checkpoint with `use_bias: true`
# answers otherwise than in transformers, which adds it. No warning.
#
# Seen with xllamacpp 2026.10.11549 (llama.cpp of October 2026), gguf 0.19.0: the probabilities of the next token
# are the same with a bias of zeros and with one of random numbers; a bias of attn_q does change them.
# Output: "attn_output.bias: the same, attn_q.bias: another".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet xllamacpp==2026.10.11549 gguf==0.19.0
cat > "$folder/run.py" <<'PYTHON'
import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

WIDTH, TOKENS, HEADS = 64, 96, 2


def write(path, scales):
    """A random ernie4_5 of one layer; scales: of the biases."""
    draw = np.random.default_rng(1)
    writer = gguf.GGUFWriter(str(path), "ernie4_5")
    sizes = {"block_count": 1, "context_length": 64, "embedding_length": WIDTH, "feed_forward_length": 96}
    sizes |= {"attention.head_count": HEADS, "attention.head_count_kv": HEADS}
    for key, value in sizes.items():
        writer.add_uint32(f"ernie4_5.{key}", value)
    writer.add_float32("ernie4_5.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_string("tokenizer.ggml.model", "llama")
    writer.add_array("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", *[f"t{i}" for i in range(TOKENS - 3)]])
    writer.add_array("tokenizer.ggml.scores", [float(-i) for i in range(TOKENS)])
    writer.add_array("tokenizer.ggml.token_type", [2, 3, 3, *[1] * (TOKENS - 3)])
    matrices = {"token_embd": (TOKENS, WIDTH), "output": (TOKENS, WIDTH), "blk.0.ffn_down": (WIDTH, 96)}
    matrices |= {f"blk.0.ffn_{name}": (96, WIDTH) for name in ("gate", "up")}
    matrices |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    for name, shape in matrices.items():
        writer.add_tensor(f"{name}.weight", draw.standard_normal(shape).astype(np.float32) / 8)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        bias = draw.standard_normal(WIDTH).astype(np.float32) * scales.get(name, 0)
        writer.add_tensor(f"blk.0.{name}.bias", bias)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def probabilities(path):
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup, params.verbosity = str(path), 64, False, -1
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    answer = server.handle_completions(
        {"prompt": [5, 6, 7, 8, 9], "max_tokens": 1, "temperature": 0, "logprobs": 20, "n_probs": 20}
    )
    return str(answer["choices"][0]["logprobs"])


folder, found = Path(sys.argv[1]), {}
for name, scales in {"none": {}, "attn_output": {"attn_output": 1}, "attn_q": {"attn_q": 5}}.items():
    write(folder / f"{name}.gguf", scales)
    found[name] = probabilities(folder / f"{name}.gguf")
said = {name: "the same" if found[name] == found["none"] else "another" for name in ("attn_output", "attn_q")}
print(", ".join(f"{name}.bias: {what}" for name, what in said.items()))
PYTHON
seen=$("$folder/venv/bin/python" "$folder/run.py" "$folder" 2>/dev/null | tail -n 1)
echo "$seen"
test "$seen" = "attn_output.bias: the same, attn_q.bias: another"
