"""Tiny Llamas whose matrices are packed by whatever function a test gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import conversion
import gguf
import numpy as np
import tiny
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.convert.pipeline import convert_checkpoint, plan_conversion
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType

Array = NDArray[Any]
Floats = NDArray[np.float32]
# From the name of a module and its weight: the tensors in which it is packed, and the weight that these hold.
Pack = Callable[[str, Floats], tuple[Mapping[str, Array], Floats]]

CONFIG = {**tiny.CONFIG, "vocab_size": 4096}


def write(
    folder: Path, tokenizer: Path, quantization: Mapping[str, Any], pack: Pack, *, head: bool = False
) -> dict[str, Floats]:
    """A checkpoint with packed linears; head: the last one, too. Returns the weights that its files hold."""
    held: dict[str, Floats] = {}
    stored: dict[str, Array] = {}
    for name, x in tiny.weights(CONFIG).items():
        stem = name.removesuffix(".weight")
        if stem.endswith("_proj") or (head and stem == "lm_head"):
            parts, held[name] = pack(stem, x / np.float32(8))
            stored |= parts
        else:
            stored[name] = x.astype(np.float16)
            held[name] = stored[name].astype(np.float32)
    tiny.write(folder, tokenizer, {**CONFIG, "quantization_config": quantization})
    save(folder, stored)
    return held


def save(folder: Path, tensors: Mapping[str, Array], **metadata: str) -> None:
    save_file(
        {name: np.ascontiguousarray(x) for name, x in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt", **metadata},
    )


def set_config(folder: Path, **changes: Any) -> None:
    """Another configuration for the same files."""
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))


def outcome(folder: Path, outtype: str = "auto") -> list[str]:
    """What converting says of the packed weights."""
    plan = plan_conversion(folder, folder / "out.gguf", outtype=outtype)
    plan.write()
    return plan.of_packed()


def read(folder: Path) -> dict[str, tuple[str, Floats, Floats]]:
    """Of each weight that was packed its type, the numbers of that, not decoded by us, and those packed."""
    packed = Checkpoint.open(folder).packed
    assert packed is not None
    found: dict[str, tuple[str, Floats, Floats]] = {}
    for name, weight in packed.weights.items():
        kept, whole = (
            decoded(each.read(0, each.rows), each.type).reshape(each.shape)
            for each in (weight.source, weight.floats or weight.source)
        )
        found[name] = (weight.source.type.label, kept, whole)
    return found


def converted(folder: Path, outtype: str = "auto") -> dict[str, tuple[str, Floats]]:
    """Of each tensor of the converted file its type, and its numbers, not decoded by us."""
    (path,) = convert_checkpoint(folder, outtype=outtype)
    with GGUFFile.open(path) as file:
        return {
            name: (tensor.type.label, decoded(np.array(tensor.data), tensor.type).reshape(tensor.shape))
            for name, tensor in file.tensors.items()
        }


def decoded(data: NDArray[np.uint8], type: GGMLType) -> Floats:
    """Rows of numbers; the library does not know q2_0 yet."""
    if type is not GGMLType.Q2_0:
        return gguf.dequantize(data, gguf.GGMLQuantizationType(type))
    blocks = data.reshape(-1, 18)
    codes = np.array([[int(byte) >> 2 * i & 3 for byte in block[2:] for i in range(4)] for block in blocks])
    return (codes - 1) * blocks[:, :2].copy().view(np.float16).astype(np.float32)


def expected(held: Mapping[str, Floats]) -> dict[str, Floats]:
    """The file's tensors, as floats."""
    return conversion.expected(held, CONFIG)
