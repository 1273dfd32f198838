"""torchao's tensors as its safetensors support flattens them: `X._weight_qdata`, `X._weight_scale`, and more.

What kind of tensor `X.weight` is, stands in the metadata of the file that holds its parts. Weight =
(integer - zero_point) * scale. Source: torchao prototype/safetensors, quantization/quantize_/workflows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.json_files import parse_json
from ggufpy.checkpoint.quantized import fp8
from ggufpy.checkpoint.quantized.integers import Integers, Slab
from ggufpy.checkpoint.quantized.method import FLOATS, ORIGINAL, Packed, Weight, precision_in_f16
from ggufpy.checkpoint.quantized.scales import Scales
from ggufpy.checkpoint.safetensors import read_metadata
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.types import GGMLType

_KEYS = (
    *(
        "quant_method",
        "quant_type",
        "quant_type_kwargs",
        "modules_to_not_convert",
        "include_input_output_embeddings",
    ),
    *("untie_embedding_weights",),
)
_QDATA = "_qdata"
_READ = ("Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor")


def weights(packed: Packed) -> list[Weight]:
    """All that torchao has packed."""
    packed.check_keys(_KEYS)
    kinds: dict[str, str] = {}
    for file in sorted(packed.where.parent.glob("*.safetensors")) if packed.tensors else ():
        kinds |= read_metadata(file)
    return [_weight(packed, stem, kinds) for stem in packed.stems(_QDATA)]


def _weight(packed: Packed, stem: str, kinds: Mapping[str, str]) -> Weight:
    module, _, last = stem.rpartition("._")
    name = f"{module}.{last}"
    where = f"metadata of tensor {quoted(name)}"
    said = parse_json(kinds.get(name, "{}").encode(), where)
    kind, attributes = said.get("_type"), said.get("_data")
    if kind not in _READ or not isinstance(attributes, dict):
        problem = f"tensor {quoted(name)} is torchao's {kind!r:.40}, ggufpy knows {', '.join(_READ)}"
        raise UnsupportedModelError(f"{packed.where.parent}: {problem}; {ORIGINAL}")
    block = attributes.get("block_size")
    if not isinstance(block, list) or not all(type(n) is int and n > 0 for n in block):
        raise FormatError(f"{where}: block_size is {block!r:.40}, it must be a list of sizes")
    parts = [
        part
        for part in (f"{stem}_{end}" for end in ("qdata", "scale", "zero_point"))
        if part in packed.tensors
    ]
    if kind == "Float8Tensor":
        made = fp8.weight(packed, f"{stem}_qdata", f"{stem}_scale", block, parts)
        return replace(made, source=replace(made.source, name=name))
    return _integers(packed, stem, name, block, _bits(attributes, where), parts)


def _bits(attributes: Mapping[str, Any], where: str) -> int:
    """Those of an integer, which may be fewer than it is stored in."""
    target = attributes.get("target_dtype", {"_data": "int8"})
    said = target.get("_data") if isinstance(target, dict) else None
    if said not in [f"int{bits}" for bits in range(1, 9)]:
        raise FormatError(f"{where}: target_dtype is {said!r:.40}, it must be int1 to int8")
    return int(said[3:])


def _integers(packed: Packed, stem: str, name: str, block: list[int], bits: int, parts: list[str]) -> Weight:
    qdata = packed.part(f"{stem}_qdata", (GGMLType.I8,))
    if len(qdata.shape) < 2 or len(block) != len(qdata.shape):
        problem = f"has shape {qdata.shape}, its block_size is {block}"
        raise FormatError(f"tensor {quoted(qdata.name)} {problem}; they do not belong together")
    scales = Scales.of(packed.part(f"{stem}_scale", FLOATS), qdata.shape, block[-2:])
    middle = 1 << (bits - 1)  # codes count from 0 on
    zeros = None
    if f"{stem}_zero_point" in packed.tensors:
        zeros = Scales.of(packed.part(f"{stem}_zero_point", (GGMLType.I8,)), qdata.shape, block[-2:])

    def zero_points(start: int, stop: int) -> NDArray[np.int16] | int:
        return middle if zeros is None else zeros.stored(start, stop).view(np.int8).astype(np.int16) + middle

    def read(start: int, stop: int) -> Slab:
        codes = qdata.read(start, stop).view(np.int8).astype(np.int16) + middle
        return Slab(codes, scales.read(start, stop), zero_points(start, stop))

    every = np.asarray(zero_points(0, qdata.rows))
    return Integers(
        name,
        qdata.shape,
        parts,
        scales.group_of,
        bits,
        (int(every.min()), int(every.max())),
        precision_in_f16(scales.source),
        read,
    ).weight()
