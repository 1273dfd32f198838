"""Checkpoints that others quantized: what they pack in several tensors becomes one weight again.

A weight gets the type of blocks that has its numbers, bit for bit or nearly; one for which there is none is
decoded to floats. A method is a file with a function from `Packed` to weights, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.quantized import (
    auto_round,
    awq,
    bitsandbytes,
    compressed_tensors,
    fp4,
    fp8,
    gptq,
    hqq,
    mlx,
    modelopt,
    torchao,
)
from ggufpy.checkpoint.quantized.method import ORIGINAL, Packed, Weight
from ggufpy.checkpoint.quantized.settings import quantization_settings, without_settings
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource

Method = Callable[[Packed], list[Weight]]

# By `quant_method`.
METHODS: dict[str, Method] = {
    "auto-round": auto_round.weights,
    "awq": awq.weights,
    "bitsandbytes": bitsandbytes.weights,
    "compressed-tensors": compressed_tensors.weights,
    "fbgemm_fp8": fp8.weights,
    "fp8": fp8.weights,
    "gptq": gptq.weights,
    "hqq": hqq.weights,
    "intel/auto-round": auto_round.weights,
    "mlx": mlx.weights,
    "modelopt": modelopt.weights,
    "torchao": torchao.weights,
    "mxfp4": fp4.weights,
}

# Those that some architectures read; which do, their files say.
_OF_ARCHITECTURES = ("bitnet",)


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """What became of those that were packed, by their names; method: who packed them."""

    method: str
    weights: Mapping[str, Weight]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A checkpoint as if it had not been quantized; packed: None if it was not."""

    config: dict[str, Any]
    tensors: dict[str, TensorSource]
    packed: PackedWeights | None = None


def unpacked(folder: Path, config: dict[str, Any], read: Callable[[], dict[str, TensorSource]]) -> Unpacked:
    """Make weights of the packed tensors of a checkpoint, if there are such.

    read: gives the tensors as they are in the files; of those only scales and zero-points are read.
    Raises FormatError for parts that are missing or do not fit, UnsupportedModelError, naming what helps, for
    methods and settings that ggufpy does not know.
    """
    said = quantization_settings(folder, config)
    if said is None or said[1] in _OF_ARCHITECTURES:
        return Unpacked(config, read())
    where, method, settings = said
    if method not in METHODS:
        how = f"quantized by {method:.40}" if method else "quantized, and no quant_method is named"
        raise UnsupportedModelError(f"{where}: {how}; {ORIGINAL}")
    tensors = read()
    weights = METHODS[method](Packed(where, settings, tensors, config))
    parts = {name for weight in weights for name in weight.parts}
    plain = {name: tensor for name, tensor in tensors.items() if name not in parts}
    for source in (each for weight in weights for each in (weight.source, weight.scale) if each):
        if source.name in plain:
            problem = f"tensor {quoted(source.name)} is there beside its packed parts"
            raise FormatError(f"{folder}: {problem}; remove one of them")
        plain[source.name] = source
    packed = PackedWeights(method, {weight.source.name: weight for weight in weights})
    return Unpacked(without_settings(config), plain, packed)
