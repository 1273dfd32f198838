"""What architecture files share to convert checkpoints: checked configuration, tensors put in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType


def count(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A positive whole number; `default` where the key is absent or null. Raises FormatError for others."""
    value = config.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value < 1 << 31:
        raise FormatError(f"config.json: {key} is {value!r:.40}, it must be a positive whole number")
    return value


def number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A finite number above 0, as `count`."""
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise FormatError(f"config.json: {key} is {value!r:.40}, it must be a number above 0")
    return float(value)


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the GGUF file: its name in the checkpoint, its own name, the shape that both have.

    heads: the rows (or, of a vector, the elements) belong to that many attention heads and are reordered for
    RoPE.
    """

    hf_name: str
    name: str
    shape: tuple[int, ...]
    optional: bool = False
    heads: int | None = None


def fill(slots: Iterable[Slot], tensors: Mapping[str, TensorSource]) -> list[TensorSource]:
    """The checkpoint's tensors in the order of `slots`, renamed and reordered.

    Raises FormatError for a tensor that is missing or has another shape, UnsupportedModelError for one that
    no slot takes.
    """
    rest = dict(tensors)
    result = []
    for slot in slots:
        source = rest.pop(slot.hf_name, None)
        if source is None:
            if slot.optional:
                continue
            raise FormatError(f"tensor '{slot.hf_name}' is missing from the checkpoint; download it again")
        if source.shape != slot.shape:
            problem = f"has shape {source.shape}, config.json asks for {slot.shape}"
            raise FormatError(f"tensor '{slot.hf_name}' {problem}; they do not belong together")
        placed = replace(source, name=slot.name)
        result.append(interleaved(placed, slot.heads) if slot.heads else placed)
    for name in rest:
        raise UnsupportedModelError(
            f"tensor '{name:.80}' has no place in this architecture as ggufpy knows it"
        )
    return result


def interleaved(source: TensorSource, heads: int) -> TensorSource:
    """Reorder each head from halves (x0 x1 ... y0 y1 ...) to pairs (x0 y0 x1 y1 ...).

    transformers rotates element i of a head with element i + size / 2; GGUF's Llama 2 i with 2 i + 1.
    source: (heads * size, columns), or a bias (heads * size,).
    """
    size = source.shape[0] // heads
    pairs = np.arange(size).reshape(2, size // 2).T.ravel()

    def read_vector(start: int, stop: int) -> NDArray[np.uint8]:
        elements = source.read(start, stop).reshape(heads, size, -1)
        return elements[:, pairs].reshape(1, -1)

    def read_rows(start: int, stop: int) -> NDArray[np.uint8]:
        first = start // size * size
        end = -(-stop // size) * size
        rows = np.arange(start, stop)
        wanted = rows // size * size + pairs[rows % size]
        result: NDArray[np.uint8] = source.read(first, end)[wanted - first]
        return result

    return replace(source, read=read_rows if len(source.shape) > 1 else read_vector)


def constant(name: str, values: NDArray[np.float32]) -> TensorSource:
    """A vector that the architecture computes itself."""
    data = values.astype("<f4").view(np.uint8).reshape(1, -1)
    return TensorSource(name, values.shape, GGMLType.F32, lambda start, stop: data[start:stop])
