"""Peak memory and rate of converting a 2 GB checkpoint, which is generated and removed afterwards.

python benchmarks/convert_memory.py [--outtype q8_0 f16] [--layers 15] [--runs 3]

Each conversion is a process of its own; its peak is counted from when imports are done and the encoder is
compiled. The checkpoint was just written, so it is read from the page cache where it fits: rates are those of
the encoder and of writing to the disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "models" / "pocket-wiki-7m-chat"
HIDDEN, INNER, HEADS, KV_HEADS, VOCABULARY = 2048, 8192, 32, 8, 32000
SHARDS = 4


def main(argv: list[str] | None = None) -> int:
    """Generate, convert, print one line per conversion and JSON at the end."""
    parser = argparse.ArgumentParser(description="Measure peak memory and rate of a conversion.")
    parser.add_argument("--outtype", nargs="+", default=["q8_0", "f16"])
    parser.add_argument("--layers", type=int, default=15, help="122 MB each; default: 15")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        return convert_once(arguments.child[0], arguments.child[1], arguments.outtype[0])
    results = []
    with tempfile.TemporaryDirectory(prefix="ggufpy-convert-") as temporary:
        folder, out = Path(temporary), Path(temporary) / "out.gguf"
        largest = generate(folder, arguments.layers)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        print(f"checkpoint: {size / 1e9:.2f} GB in {SHARDS} files, largest tensor {largest / 1e6:.0f} MB")
        for outtype in arguments.outtype:
            for _ in range(arguments.runs):
                results.append(run_child(folder, out, outtype) | {"checkpoint_bytes": size})
    print(json.dumps(results))
    return 0


def run_child(folder: Path, out: Path, outtype: str) -> dict[str, object]:
    """Convert in a process of its own; returns its figures."""
    command = [sys.executable, __file__, "--outtype", outtype, "--child", str(folder), str(out)]
    report = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    result: dict[str, object] = json.loads(report)
    print(
        "{outtype}: {peak_mb} MB beyond start, {read_mb_s} MB/s read, {written_mb_s} MB/s written".format(
            **result
        )
    )
    return result


def convert_once(folder: Path, out: Path, outtype: str) -> int:
    """Convert, and print peak memory and rates as JSON."""
    from ggufpy.convert.pipeline import convert_checkpoint
    from ggufpy.gguf.types import GGMLType
    from ggufpy.quants import encode

    encode(np.zeros((1, 32), np.float32), GGMLType[outtype.upper()])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start_memory, start = peak_bytes(), time.monotonic()
    convert_checkpoint(folder, out, outtype=outtype)
    seconds = time.monotonic() - start
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    result = {
        "outtype": outtype,
        "peak_mb": round((peak_bytes() - start_memory) / 1e6, 1),
        "seconds": round(seconds, 2),
        "read_mb_s": round(size / seconds / 1e6),
        "written_mb_s": round(out.stat().st_size / seconds / 1e6),
    }
    print(json.dumps(result))
    return 0


def peak_bytes() -> int:
    """Peak resident memory since the process or the last reset began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def generate(folder: Path, layers: int) -> int:
    """Write a random bf16 Llama in shards, with the shipped tokenizer; returns its largest tensor's bytes."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors = list(shapes(layers))
    weight_map: dict[str, str] = {}
    for shard in range(SHARDS):
        part = tensors[shard * len(tensors) // SHARDS : (shard + 1) * len(tensors) // SHARDS]
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        write_shard(folder / file, part)
        weight_map |= dict.fromkeys((name for name, _ in part), file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return max(2 * int(np.prod(shape)) for _, shape in tensors)


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a Llama's tensors."""
    kv = HIDDEN // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        for name, rows in (("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, HIDDEN)
        for name, shape in (("gate", (INNER, HIDDEN)), ("up", (INNER, HIDDEN)), ("down", (HIDDEN, INNER))):
            yield f"{prefix}mlp.{name}_proj.weight", shape
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def write_shard(path: Path, tensors: list[tuple[str, tuple[int, ...]]]) -> None:
    """Write random bf16 tensors of these shapes: one block of normal numbers, over and over."""
    block = np.random.default_rng(0).standard_normal(1 << 21, dtype=np.float32)
    data = (block.view(np.uint32) >> 16).astype("<u2").tobytes()
    header, end = {}, 0
    for name, shape in tensors:
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for written in range(0, end, len(data)):
            stream.write(data[: end - written])


if __name__ == "__main__":
    raise SystemExit(main())
