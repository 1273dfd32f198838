"""From a preset to tensors that encode themselves: what quantizing a file and converting have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.floats import are_finite
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.quants import ENCODERS, NEEDS_WEIGHTS, Search, decode, quantized, unblocked
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.presets import QUANTIZATION_VERSION, Preset
from ggufpy.quants.choice.recipe import NO_OVERRIDES, Decision, Facts, Overrides, choose_types
from ggufpy.quants.formats import floats

Metadata = dict[str, Value | Typed]

FILE_TYPE = "general.file_type"
VERSION = "general.quantization_version"

_INTEGERS = (GGMLType.I8, GGMLType.I16, GGMLType.I32, GGMLType.I64)
# llama-quantize takes these without importance, whatever their type.
_EXEMPT = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor before and after, and why. calibrated: the importance of its columns is known."""

    source: TensorSource
    tensor: TensorSource
    decision: Decision
    calibrated: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What becomes of a model's weights.

    matrix: the importance matrix, under the names that the tensors have. search: how the encoders look for
    scales. threads: how many encode, by default as many as there are cores.
    """

    preset: Preset
    overrides: Overrides = NO_OVERRIDES
    matrix: ImportanceMatrix | None = None
    search: Search = "reference"
    allow_requantize: bool = False
    threads: int | None = None


def plan_tensors(sources: Sequence[TensorSource], facts: Facts, request: Request) -> list[Planned]:
    """Give each of `sources`, in the order of the file, its type; nothing is read yet.

    Raises ShapeError for rows that no type's blocks divide, FormatError for a matrix of another model, for a
    type that needs one without it, and for blocks that would be quantized again without leave,
    UnsupportedModelError for types that cannot be written. Later, when rows are read, FormatError for NaN or
    Inf.
    """
    if request.matrix is not None:
        request.matrix.check_model(source.name for source in sources)
    shapes = [(source.name, source.shape) for source in sources]
    calibrated = request.matrix is not None
    decisions = choose_types(facts, shapes, request.preset, request.overrides, calibrated=calibrated)
    return [_planned(source, each, request) for source, each in zip(sources, decisions, strict=True)]


def kept(source: TensorSource) -> Planned:
    """A tensor that stays as it is; FormatError when rows are read that have NaN or Inf."""
    return Planned(source, finite(source), Decision(None, None))


def quantized_metadata(metadata: Metadata, preset: Preset) -> Metadata:
    """A model's metadata once it is quantized."""
    return with_entries(metadata, {VERSION: QUANTIZATION_VERSION, FILE_TYPE: preset.id})


def with_entries(metadata: Metadata, entries: Metadata) -> Metadata:
    """The metadata with more or other entries, which stand at its end, as llama-quantize writes them."""
    return {key: value for key, value in metadata.items() if key not in entries} | entries


def _planned(source: TensorSource, decision: Decision, request: Request) -> Planned:
    type = decision.type
    if type is None or type is source.type:
        return Planned(source, finite(source), decision)
    if type not in ENCODERS:
        raise UnsupportedModelError(
            f"tensor '{source.name}': ggufpy cannot write {type.label}; choose another"
        )
    matrix = request.matrix
    weights = matrix.weights(source.name, source.shape) if matrix and type.block_size > 1 else None
    if weights is None:
        _check_without_weights(source.name, type, request)
    tensor = quantized(
        _as_floats(source, type, request.allow_requantize),
        type,
        weights,
        search=request.search,
        threads=request.threads,
    )
    return Planned(source, tensor, decision, weights is not None)


def _check_without_weights(name: str, type: GGMLType, request: Request) -> None:
    blind = type is GGMLType.Q2_K and request.preset.name == "Q2_K_S" and name not in _EXEMPT
    if blind or type in NEEDS_WEIGHTS:
        remedy = "give an importance matrix" if request.matrix is None else f"{request.matrix.path} has none"
        raise FormatError(f"tensor '{name}': {type.label} needs the importance of its columns; {remedy}")


def _as_floats(source: TensorSource, type: GGMLType, allow_requantize: bool) -> TensorSource:
    """`source` as floats to be encoded as `type`, decoded when rows are read."""
    if source.type in (*floats.DTYPES, *_INTEGERS):
        return source if type.block_size > 1 else finite(source)  # encoders of blocks check for themselves
    if not allow_requantize:
        problem = f"is {source.type.label} already, and quantizing it again adds to its errors"
        raise FormatError(
            f"tensor '{source.name}' {problem}; start from f16 or f32, or allow it (--allow-requantize)"
        )
    return finite(unblocked(source))


def finite(source: TensorSource) -> TensorSource:
    """`source`, except that reading NaN or Inf raises FormatError."""
    if source.type in _INTEGERS:
        return source

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        data = source.read(start, stop)
        if source.type in floats.DTYPES:
            if not are_finite(data, source.type):
                raise _not_finite(source.name)
            return data
        _check_finite(source.name, decode(data, source.type))
        return data

    return TensorSource(source.name, source.shape, source.type, read)


def _check_finite(name: str, x: NDArray[np.float32]) -> None:
    if x.size and not np.isfinite(x).all():
        raise _not_finite(name)


def _not_finite(name: str) -> FormatError:
    return FormatError(f"tensor '{name}' has NaN or Inf; get or convert the model again")
