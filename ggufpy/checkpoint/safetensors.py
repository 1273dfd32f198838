"""Reading safetensors files: the header is checked to the last byte, tensors are read on demand.

Source: the format's description in huggingface/safetensors, README.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.json_files import parse_json
from ggufpy.checkpoint.small_floats import E4M3, E5M2, E8M0, as_bf16
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.stored import read_bytes, stored_tensor
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

_TYPES = {
    "F64": GGMLType.F64,
    "F32": GGMLType.F32,
    "F16": GGMLType.F16,
    "BF16": GGMLType.BF16,
    "I64": GGMLType.I64,
    "I32": GGMLType.I32,
    "I16": GGMLType.I16,
    "I8": GGMLType.I8,
    # Bits in which numbers are packed, and masks: numbers of these types have no place in GGUF.
    "U32": GGMLType.I32,
    "U8": GGMLType.I8,
    "BOOL": GGMLType.I8,
}

# Read as bf16, which holds each of their values.
_SMALL_FLOATS = {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "F8_E8M0": E8M0}
_KNOWN = (*_TYPES, *_SMALL_FLOATS)

# The reference implementation's limit.
_MAX_HEADER_BYTES = 100_000_000
_MAX_DIMENSIONS = 8


def read_safetensors(path: Path) -> dict[str, TensorSource]:
    """The tensors of a file by name, in the order of their data.

    Raises FormatError where the file breaks a rule of the format: data must follow the header in one piece,
    without gaps, overlaps or bytes left over. Raises UnsupportedModelError for a dtype that GGUF does not
    have.
    """
    header, start = _read_header(path)
    header.pop("__metadata__", None)
    end = path.stat().st_size - start
    entries = sorted((_Entry(path, name, fields) for name, fields in header.items()), key=_Entry.position)
    expected = 0
    for entry in entries:
        if entry.begin != expected:
            problem = "overlaps the one before" if entry.begin < expected else "leaves a gap before it"
            where = f"tensor {quoted(entry.name)} at {entry.begin}"
            raise FormatError(f"{path}: {where} {problem}; download it again")
        expected = entry.end
    if expected != end:
        problem = f"its tensors take {expected} bytes, the file has {end} for them"
        raise FormatError(f"{path}: {problem}; download it again")
    return {entry.name: entry.source(start) for entry in entries}


def read_metadata(path: Path) -> dict[str, str]:
    """What a file says beside its tensors; raises FormatError if that is not texts."""
    metadata = _read_header(path)[0].get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FormatError(f"{path}: __metadata__ must be texts by name; download it again")
    return metadata


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the data begins."""
    size = path.stat().st_size
    if size < 8:
        raise FormatError(f"{path}: has {size} bytes, too few for a safetensors file; download it again")
    length = int.from_bytes(read_bytes(path, 0, 8).tobytes(), "little")
    if length > min(size - 8, _MAX_HEADER_BYTES):
        raise FormatError(f"{path}: a header of {length} bytes cannot be; not a whole safetensors file")
    text = read_bytes(path, 8, length).tobytes()
    if not text.startswith(b"{"):
        raise FormatError(f"{path}: its header does not begin with '{{'; not a safetensors file")
    return parse_json(text, f"{path}: header", unique_keys=True), 8 + length


class _Entry:
    """One tensor of the header: name, dtype, shape, data_offsets."""

    def __init__(self, path: Path, name: str, fields: Any) -> None:
        self.path, self.name = path, name
        if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
            raise self._broken("needs dtype, shape and data_offsets, and nothing else")
        self.shape = self._numbers(fields["shape"], "shape")
        offsets = self._numbers(fields["data_offsets"], "data_offsets")
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            raise self._broken(f"has data_offsets {list(offsets)}")
        self.begin, self.end = offsets
        dtype = fields["dtype"]
        if not isinstance(dtype, str) or dtype not in _KNOWN:
            problem = f"tensor {quoted(name)} has dtype {dtype!r:.40}; ggufpy reads {', '.join(_KNOWN)}"
            raise UnsupportedModelError(f"{path}: {problem}")
        self.table = _SMALL_FLOATS.get(dtype)
        self.type = _TYPES.get(dtype, GGMLType.I8)
        size = math.prod(self.shape) * self.type.block_bytes
        if size != self.end - self.begin:
            raise self._broken(f"takes {size} bytes but has {self.end - self.begin}")

    def position(self) -> tuple[int, int]:
        return self.begin, self.end

    def source(self, start: int) -> TensorSource:
        stored = stored_tensor(self.name, self.shape, self.type, self.path, start + self.begin)
        return stored if self.table is None else as_bf16(stored, self.table)

    def _numbers(self, value: Any, field: str) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) > _MAX_DIMENSIONS:
            raise self._broken(f"has {field} {value!r:.60}")
        if any(type(item) is not int or not 0 <= item < 1 << 63 for item in value):
            raise self._broken(f"has {field} {value!r:.60}")
        return tuple(value)

    def _broken(self, problem: str) -> FormatError:
        return FormatError(f"{self.path}: tensor {quoted(self.name)} {problem}; download it again")
