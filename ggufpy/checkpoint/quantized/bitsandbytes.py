"""bitsandbytes: integers of 8 bits with a scale per row, and codes of 4 bits that a table gives meaning.

Of 8 bits: `X.weight` (outputs, inputs), `X.SCB` (outputs,); weight = integer * SCB / 127. Of 4 bits: `X`,
bytes with the first of two codes in the high half, `X.quant_map`, what the codes stand for, `X.absmax`, what
each block of `blocksize` is multiplied with, and a JSON object in `X.quant_state.bitsandbytes__nf4`. With
double quantization `absmax` are codes, too: of `X.nested_quant_map` and `X.nested_absmax`, plus an offset.
Source: bitsandbytes functional.py, QuantState; nn/modules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.json_files import parse_json
from ggufpy.checkpoint.quantized.integers import Integers, Slab
from ggufpy.checkpoint.quantized.method import FLOATS, Packed, Weight, as_floats, floats_of, precision_in_f16
from ggufpy.checkpoint.quantized.words import some_bytes
from ggufpy.errors import FormatError
from ggufpy.gguf import sources
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.types import GGMLType

_KEYS = (
    *("quant_method", "_load_in_4bit", "_load_in_8bit", "load_in_4bit", "load_in_8bit"),
    *("llm_int8_threshold", "llm_int8_skip_modules", "llm_int8_enable_fp32_cpu_offload"),
    *("llm_int8_has_fp16_weight", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant"),
    *("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"),
)
_STATE = ".quant_state.bitsandbytes__"
_BYTES = (GGMLType.I8,)
# Codes of 4 bits are bytes, which may be called something else to be sharded with other weights.
_STORAGE = (*_BYTES, *FLOATS)

Floats = NDArray[np.float32]


def weights(packed: Packed) -> list[Weight]:
    """All that bitsandbytes has packed."""
    packed.check_keys(_KEYS)
    states = [name for name in packed.tensors if _STATE in name]
    return [
        *(_of_8_bits(packed, stem) for stem in packed.stems(".SCB")),
        *(_of_4_bits(packed, *name.split(_STATE, 1)) for name in states),
    ]


def _of_8_bits(packed: Packed, stem: str) -> Weight:
    name = f"{stem}.weight"
    weight = packed.part(name, _BYTES)
    scb = packed.shaped(f"{stem}.SCB", FLOATS, weight.shape[:1], of=name)
    scales = sources.reshaped(sources.mapped(scb, lambda x: x / np.float32(127)), (scb.columns, 1))

    def read(start: int, stop: int) -> Slab:
        values = weight.read(start, stop).view(np.int8).astype(np.int16)
        return Slab(values + 128, floats_of(scales, start, stop), 128)

    form = f"{stem}.weight_format"
    return Integers(
        name,
        weight.shape,
        [name, f"{stem}.SCB", *([form] if form in packed.tensors else [])],
        np.zeros(weight.columns, np.int64),
        8,
        (128, 128),
        precision_in_f16(scales),
        read,
    ).weight()


def _of_4_bits(packed: Packed, name: str, kind: str) -> Weight:
    state = _State.read(packed, name, kind)
    codes = packed.part(name, _STORAGE)
    n = int(np.prod(state.shape, dtype=object))
    if codes.n_bytes != -(-n // 2):
        problem = f"has {codes.n_bytes} bytes, its quant_state asks for shape {state.shape}"
        raise FormatError(f"tensor {quoted(name)} {problem}; they do not belong together")
    table = floats_of(packed.shaped(f"{name}.quant_map", FLOATS, (16,), of=name)).reshape(-1)
    read_absmax, parts = _absmax(packed, name, state, -(-n // state.blocksize))
    columns = state.shape[-1]

    def read(start: int, stop: int) -> Floats:
        first, last = start * columns, stop * columns
        of_bytes = some_bytes(codes, first // 2, -(-last // 2))
        halves = np.stack([of_bytes >> 4, of_bytes & 15], axis=-1).reshape(-1)
        values = table[halves[first % 2 :][: last - first]]
        factors = read_absmax()[np.arange(first, last) // state.blocksize]
        return (values * factors).reshape(-1, columns)

    parts += [name, f"{name}.quant_map", f"{name}{_STATE}{kind}"]
    return as_floats(name, state.shape, parts, read)


@dataclass(frozen=True, slots=True)
class _State:
    """What counts of the JSON object beside a weight. offset: of decoded scales, where these are codes."""

    shape: tuple[int, ...]
    blocksize: int
    nested_blocksize: int
    offset: float

    @classmethod
    def read(cls, packed: Packed, name: str, kind: str) -> _State:
        """Raises FormatError for numbers that cannot be."""
        tensor = packed.part(f"{name}{_STATE}{kind}", _BYTES)
        where = f"tensor {quoted(tensor.name)}"
        said = parse_json(tensor.read(0, tensor.rows).tobytes(), where)
        shape = said.get("shape")
        if not isinstance(shape, list) or len(shape) < 2 or not all(type(n) is int and n > 0 for n in shape):
            raise FormatError(f"{where}: shape is {shape!r:.40}, it must be a list of sizes")
        offset = said.get("nested_offset", 0.0)
        if not isinstance(offset, int | float):
            raise FormatError(f"{where}: nested_offset is {offset!r:.40}, it must be a number")
        sizes = (_size(where, said, "blocksize", None), _size(where, said, "nested_blocksize", 256))
        return cls(tuple(shape), *sizes, float(offset))


def _size(where: str, said: Mapping[str, Any], key: str, default: int | None) -> int:
    value = said.get(key, default)
    if type(value) is not int or value < 1:
        raise FormatError(f"{where}: {key} is {value!r:.40}, it must be a positive number")
    return value


def _absmax(packed: Packed, name: str, state: _State, blocks: int) -> tuple[Callable[[], Floats], list[str]]:
    """What reads the factor of each block, (blocks,), and the names of the tensors that it reads."""
    absmax = packed.shaped(f"{name}.absmax", (*FLOATS, *_BYTES), (blocks,), of=name)
    if absmax.type in FLOATS:
        return lambda: floats_of(absmax).reshape(-1), [absmax.name]
    nested, table = (f"{name}.nested_{part}" for part in ("absmax", "quant_map"))
    outer = (-(-blocks // state.nested_blocksize),)
    factors = floats_of(packed.shaped(nested, FLOATS, outer, of=absmax.name)).reshape(-1)
    meanings = floats_of(packed.shaped(table, FLOATS, (256,), of=absmax.name)).reshape(-1)

    def read() -> Floats:
        values = meanings[absmax.read(0, 1).reshape(-1)]
        return values * factors[np.arange(blocks) // state.nested_blocksize] + np.float32(state.offset)

    return read, [absmax.name, nested, table]
