"""What all methods of quantizing have in common: packed tensors are looked up, and become weights.

A method is a function from `Packed` to the weights that it finds there. Which tensors are packed their names
say, whatever lists of the settings say of it: so mixed layers and layers that were left out need no care.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.floats import decode
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

ORIGINAL = "convert the checkpoint that it was quantized from"
FLOATS = (GGMLType.F16, GGMLType.BF16, GGMLType.F32)

_SLAB_BYTES = 4 << 20


class How(StrEnum):
    """What became of a packed weight."""

    EXACTLY = "repacked exactly"
    NEARLY = "repacked nearly"
    AS_FLOATS = "dequantized"


@dataclass(slots=True)
class Error:
    """How far a type of blocks is from what was packed: sums of squares, gathered when rows are read.

    squares: of the differences. total: of what was packed.
    """

    squares: float = 0.0
    total: float = 0.0

    def add(self, packed: NDArray[np.float32], kept: NDArray[np.float32]) -> None:
        """Some rows before and after."""
        self.squares += float(np.sum(np.square(kept - packed, dtype=np.float64)))
        self.total += float(np.sum(np.square(packed, dtype=np.float64)))


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight made of packed parts: source, under its own name, and the names of the parts.

    Of what is repacked nearly: error, and floats, the numbers before that. scale: a factor, (1,), that blocks
    lack; floats are then the products.
    """

    source: TensorSource
    parts: Sequence[str]
    how: How
    error: Error | None = None
    floats: TensorSource | None = None
    scale: TensorSource | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A checkpoint before its weights are made.

    where: the file with the settings, for messages. config: config.json's, for what the settings do not say.
    """

    where: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, TensorSource]
    config: Mapping[str, Any]

    def stems(self, ending: str) -> list[str]:
        """Names of the tensors that end so, without that ending."""
        return [name.removesuffix(ending) for name in self.tensors if name.endswith(ending)]

    def part(self, name: str, types: Collection[GGMLType]) -> TensorSource:
        """A part that there must be; raises FormatError if it is missing, empty or of another type."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise FormatError(f"{self.where.parent}: tensor {quoted(name)} is missing; download it again")
        if tensor.type not in types:
            wanted = " or ".join(each.label for each in types)
            raise FormatError(f"tensor {quoted(name)} is of {tensor.type.label}, it must be of {wanted}")
        if 0 in tensor.shape:
            raise FormatError(
                f"tensor {quoted(name)} has shape {tensor.shape}, no numbers; download it again"
            )
        return tensor

    def shaped(
        self, name: str, types: Collection[GGMLType], *shapes: tuple[int, ...], of: str
    ) -> TensorSource:
        """A part that must have one of these shapes; of: the part that says so."""
        tensor = self.part(name, types)
        if tensor.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            problem = f"has shape {tensor.shape}, {quoted(of)} asks for {wanted}"
            raise FormatError(f"tensor {quoted(name)} {problem}; they do not belong together")
        return tensor

    def choice(self, key: str, default: Any, *known: Any) -> Any:
        """A setting that is one of those known; raises UnsupportedModelError for others."""
        value = self.settings.get(key)
        value = default if value is None else value
        if not any(type(value) is type(each) and value == each for each in known):
            listed = ", ".join(str(each).lower() if isinstance(each, bool) else str(each) for each in known)
            problem = f"{key} is {value!r:.40} in its quantization, ggufpy knows {listed}"
            raise UnsupportedModelError(f"{self.where}: {problem}; {ORIGINAL}")
        return value

    def check_keys(self, known: Collection[str]) -> None:
        """Raise UnsupportedModelError for settings that nobody knows, unless they say no."""
        for key, value in self.settings.items():
            if key not in known and value not in (None, False, [], {}, ""):
                problem = f"ggufpy does not know the quantization's {key!r:.60} ({value!r:.40})"
                remedy = "remove it from there if it says nothing about the weights, or " + ORIGINAL
                raise UnsupportedModelError(f"{self.where}: {problem}; {remedy}")


def no_numbers() -> np.errstate:
    """NaN and Inf may come up while this is entered: they are refused when they are written."""
    return np.errstate(over="ignore", invalid="ignore")


def as_floats(
    name: str,
    shape: tuple[int, ...],
    parts: Sequence[str],
    read: Callable[[int, int], NDArray[np.float32]],
) -> Weight:
    """A weight for which there is no type of blocks; read: rows start..stop, (rows, columns)."""

    def read_bytes(start: int, stop: int) -> NDArray[np.uint8]:
        with no_numbers():
            return np.ascontiguousarray(read(start, stop), "<f4").view(np.uint8)

    return Weight(TensorSource(name, shape, GGMLType.F32, read_bytes), parts, How.AS_FLOATS)


def floats_of(source: TensorSource, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
    """Rows of a tensor of floats, or of all of it: (rows, columns)."""
    return decode(source.read(start, source.rows if stop is None else stop), source.type)


def precision_in_f16(scales: TensorSource) -> How:
    """Whether f16, in which blocks have their scales, holds these: exactly, nearly, or not.

    Nearly: no error is larger than what rounding to f16 does to the largest of them. All of them are read.
    """
    if scales.type is GGMLType.F16:
        return How.EXACTLY
    error = largest = 0.0
    step = max(1, _SLAB_BYTES // max(1, scales.row_bytes))
    for start in range(0, scales.rows, step):
        with no_numbers():
            x = floats_of(scales, start, min(start + step, scales.rows))
            error = max(error, float(np.abs(x - x.astype(np.float16).astype(np.float32)).max()))
        largest = max(largest, float(np.abs(x).max()))
    if error == 0:
        return How.EXACTLY
    return How.NEARLY if error <= largest * 2.0**-11 else How.AS_FLOATS
